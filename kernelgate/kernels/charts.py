"""stub"""
def register(display_formatter, *, on_figure): pass
