"""A load process: one of several that make a measurement's requests together, as a program of its own.

    python -c 'from milton_assets.tiers.inference.load_process import main; main()' COUNTER

What belongs here: the program, and the messages that it takes and gives. What does not: starting it, and joining what
several took (`processes`).

Messages are lines of JSON, orders on standard input and one answer to each on standard output. COUNTER is the number
of an open file whose offset all processes of a client share (`load.shared_turns`). The program ends when its standard
input does, whatever it is doing: so it never outlives whoever started it. It imports what makes requests and nothing
else, and its main thread does nothing but measure.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from milton_assets.tiers.inference.asking import Asker
from milton_assets.tiers.inference.clock import measuring_loop, prefer_this_thread, quiet_interpreter, sleep_until
from milton_assets.tiers.inference.load import Part, shared_turns
from milton_assets.tiers.inference.orders import Order, Taken
from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.vocabulary.server import Endpoint

MAX_LINE_BYTES: Final = 256 << 20


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Open(_Message):
    """Be part `index` of `of` of the client with that number, which asks that server. Answered by `Done`."""

    kind: Literal["open"] = "open"
    client: int
    base_url: str
    model: str
    api_key: str | None = Field(default=None, repr=False)
    ca_file: Path | None = None
    plan: InferencePlan
    keep_texts: bool
    index: int = Field(ge=0)
    of: int = Field(ge=1)
    epoch_ns: int


class Take(_Message):
    """Make ready to carry out this part of the order. Answered by `Ready`, and `Begin` must follow."""

    kind: Literal["take"] = "take"
    client: int
    order: Order


class Begin(_Message):
    """Begin the round at that instant of the one clock. Answered by `Made` when the round is over."""

    kind: Literal["begin"] = "begin"
    at_ns: int


class Close(_Message):
    """Close the client's connections. Answered by `Done`."""

    kind: Literal["close"] = "close"
    client: int


class Ready(_Message):
    """The order can begin at any instant."""

    kind: Literal["ready"] = "ready"


class Made(_Message):
    """This process's part of the round."""

    kind: Literal["made"] = "made"
    taken: Taken


class Done(_Message):
    """It is done."""

    kind: Literal["done"] = "done"


Asked = Annotated[Open | Take | Begin | Close, Field(discriminator="kind")]
Said = Annotated[Ready | Made | Done, Field(discriminator="kind")]
_ASKED: TypeAdapter[Open | Take | Begin | Close] = TypeAdapter(Asked)


class LoadProcess:
    """Takes messages one after the other, in one event loop."""

    def __init__(self, counter: int, said: int) -> None:
        self._counter = counter
        self._said = os.fdopen(said, "wb")
        self._askers: dict[int, Asker] = {}
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def run(self) -> None:
        """Until standard input ends."""
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        listening, serving = loop.create_task(self._listen(reader)), loop.create_task(self._serve())
        await asyncio.wait({listening, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._lines.put_nowait(line)

    async def _next(self) -> Open | Take | Begin | Close:
        return _ASKED.validate_json(await self._lines.get())

    async def _serve(self) -> None:
        while True:
            asked = await self._next()
            if isinstance(asked, Open):
                endpoint = Endpoint(asked.base_url, asked.model, api_key=asked.api_key, ca_file=asked.ca_file)
                part = Part(asked.index, asked.of)
                self._askers[asked.client] = Asker(
                    endpoint, asked.plan, keep_texts=asked.keep_texts, part=part, epoch_ns=asked.epoch_ns
                )
                self._say(Done())
            elif isinstance(asked, Take):
                turns = shared_turns(self._counter, asked.order.count)
                with quiet_interpreter():
                    taken = await self._askers[asked.client].take(
                        asked.order, lambda _: None, begin=self._begun, turns=turns
                    )
                self._say(Made(taken=taken))
            elif isinstance(asked, Close):
                await self._askers.pop(asked.client).close()
                self._say(Done())
            else:
                raise TypeError("a round is to begin, and none was ordered")

    async def _begun(self) -> int:
        self._say(Ready())
        asked = await self._next()
        if not isinstance(asked, Begin):
            raise TypeError(f"{asked.kind!r} came between an order and its beginning")
        await sleep_until(asked.at_ns)
        return asked.at_ns

    def _say(self, said: Ready | Made | Done) -> None:
        self._said.write(said.model_dump_json().encode() + b"\n")
        self._said.flush()


def main() -> None:
    """Serve until standard input ends."""
    # Messages go out over a descriptor of their own: whatever else is printed must not come between them.
    said = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    prefer_this_thread()
    with asyncio.Runner(loop_factory=measuring_loop) as runner:
        runner.run(LoadProcess(int(sys.argv[1]), said).run())
