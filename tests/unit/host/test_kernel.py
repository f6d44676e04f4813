"""Whose a kernel's message is."""

from kernelgate.host.kernel import Kernel
from kernelgate.host.loop import Loop
from kernelgate.protocol.jupyter import Message


def test_what_a_warm_up_prints_late_is_nobodys():
    """It was taken for the output of the first cell of a caller."""
    kernel = Kernel(
        Loop(),
        name="k-1",
        spec={},
        connection={"key": "x"},
        on_message=lambda *_: None,
        on_ready=lambda: None,
        on_death=lambda _: None,
    )

    def said(parent_id: str) -> Message:
        return Message("stream", "m", parent_id, {}, {"msg_id": parent_id}, {}, {"name": "stdout", "text": "42"})

    assert kernel.is_of_warm_up(said("kg-k-1:~warm:7"))
    for other in ("kg-k-1:~ask:7", "kg-k-1:run-1:7", "kg-k-2:~warm:7", "", "somebody's"):
        assert not kernel.is_of_warm_up(said(other))
    assert kernel.execution_of("kg-k-1:~warm:7") is None
    assert kernel.execution_of("kg-k-1:run-1:7") == "run-1"
