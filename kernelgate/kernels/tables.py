"""stub"""
def register(display_formatter): pass
