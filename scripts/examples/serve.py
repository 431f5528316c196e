"""A small HTTP server: many clients, one model, computed together. Standard library only.

python scripts/examples/serve.py --port 8000
curl -N localhost:8000/generate -d '{"prompt": "Once upon a time", "max_new_tokens": 40, "temperature": 0.8}'
curl localhost:8000/metrics

``POST /generate`` takes a JSON object: ``prompt`` (text or token ids), and what `SamplingParams` takes. The answer
comes as lines of JSON, one for each step; the last has the ``finish_reason``. What is wrong with a request is said with
status 400 and ``{"error": ...}``. A client that goes away ends its request. More than ``--most`` requests at a time are
answered with 503. ``GET /metrics`` gives the model's counters, and how many requests are open, were left or refused.
Ctrl-C ends all. There is no encryption and no password here: keep it behind a server that has both.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import ovgen

LARGEST = 1 << 20  # bytes of a request's body
PATIENCE = 10.0  # seconds that a client may take to say what it wants
TIME_LIMIT = 600.0  # seconds after which an answer is cut off


class Server:
    """Answers connections, one request on each.

    Args:
        llm: the model.
        most: requests at a time; the model computes ``max_num_seqs`` of them in a step, and the others wait.
    """

    def __init__(self, llm: ovgen.LLM, most: int) -> None:
        self.llm, self.engine, self.most = llm, ovgen.AsyncEngine(llm), most
        self.open = self.left = self.refused = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection; a client that goes away takes its answer with it."""
        # Cancelled only when the server ends; Python 3.11 prints a traceback where a connection ends by that.
        with contextlib.suppress(ConnectionError, asyncio.CancelledError), contextlib.closing(writer):
            try:
                method, path, body = await asyncio.wait_for(read_request(reader), PATIENCE)
            except (ValueError, asyncio.LimitOverrunError) as error:
                return await send(writer, 400, {"error": f"this is no request: {error}"})
            except asyncio.TimeoutError:
                return await send(writer, 408, {"error": f"no request came within {PATIENCE:g} s"})
            except EOFError:
                return None
            answer = asyncio.ensure_future(self.answer(method, path, body, writer))
            gone = asyncio.ensure_future(departure(reader))
            try:
                await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED, timeout=TIME_LIMIT)
            finally:
                answer.cancel()  # nothing, if it is done
                gone.cancel()
                await asyncio.wait({answer, gone})  # what the request holds is freed here
            return None if answer.cancelled() else answer.result()

    async def answer(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        """Do what a request asks for."""
        if (method, path) == ("GET", "/metrics"):
            ours = {"open": self.open, "left": self.left, "refused": self.refused}
            await send(writer, 200, {**asdict(self.llm.metrics), "hit_rate": self.llm.metrics.hit_rate, **ours})
        elif (method, path) != ("POST", "/generate"):
            await send(writer, 404, {"error": f"there is POST /generate and GET /metrics, and no {method} {path}"})
        elif self.open >= self.most:
            self.refused += 1
            await send(writer, 503, {"error": f"{self.open} requests are open: try again later"})
        else:
            self.open += 1
            try:
                await self.generate(body, writer)
            except (ConnectionError, asyncio.CancelledError):
                self.left += 1
                raise
            finally:
                self.open -= 1

    async def generate(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        """Stream a text; the status is sent with the first piece, since what is wrong is known by then."""
        begun = False
        try:
            prompt, options = parse(body)
            async with contextlib.aclosing(self.engine.stream(prompt, None, **options)) as pieces:
                async for piece in pieces:
                    if not begun:
                        writer.write(head(200, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"))
                        begun = True
                    line = {"text": piece.text, "token_ids": piece.token_ids, "finish_reason": piece.finish_reason}
                    await send_chunk(writer, {**line, "index": piece.index})
        except (ValueError, ovgen.OvgenError) as error:  # ConfigError and RequestError are ValueErrors
            if not begun:
                return await send(writer, 400 if isinstance(error, ValueError) else 500, {"error": str(error)})
            await send_chunk(writer, {"error": str(error)})
        writer.write(b"0\r\n\r\n")
        return await writer.drain()


def parse(body: bytes) -> tuple[Any, dict[str, Any]]:
    """Prompt and options of a request for a text; the engine checks their values.

    Raises:
        ValueError: the body is no such request.
    """
    try:
        options = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deep") from None
    if not isinstance(options, dict) or "prompt" not in options:
        raise ValueError('the body must be a JSON object with a "prompt"')
    if any(options.get(name, 1) != 1 for name in ("n", "best_of", "num_beams")):  # `--most` counts requests
        raise ValueError("a request is for one text here: leave n, best_of and num_beams out")
    if not options.keys().isdisjoint(("self", "params")):  # arguments of Python's, not options
        raise ValueError('"self" and "params" are no options: give the options themselves')
    return options.pop("prompt"), options


async def departure(reader: asyncio.StreamReader) -> None:
    """Wait until the client closes its side; what it sends until then is nobody's."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(1 << 16):
            pass


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    """Method, path and body.

    Raises:
        ValueError: it is no HTTP, or its body is too large.
        EOFError: the client has gone.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        raise ValueError("a body in chunks is not read here: send it with its Content-Length")
    length = int(headers.get("content-length", "0"))
    if length > LARGEST:
        raise ValueError(f"a body of {length} bytes is more than {LARGEST}")
    return method, path, await reader.readexactly(length)


def head(status: int, *headers: str) -> bytes:
    """The beginning of an answer, up to its body."""
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return "\r\n".join([first, *headers, "Connection: close", "", ""]).encode()


async def send(writer: asyncio.StreamWriter, status: int, answer: dict[str, object]) -> None:
    """A whole answer as JSON."""
    body = json.dumps(answer).encode() + b"\n"
    writer.write(head(status, "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
    await writer.drain()


async def send_chunk(writer: asyncio.StreamWriter, line: dict[str, object]) -> None:
    """One line of JSON of an answer that goes on; waits where the client does not read."""
    data = json.dumps(line).encode() + b"\n"
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


async def run(llm: ovgen.LLM, host: str, port: int, most: int) -> None:
    """Serve until cancelled; `asyncio.run` cancels the connections then."""
    server = await asyncio.start_server(Server(llm, most).serve, host, port)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()


def main() -> None:
    """Load a model and serve it."""
    parser = argparse.ArgumentParser(description="Serve a model over HTTP.")
    parser.add_argument("--model", default=ovgen.bundled_model(), help="Hugging Face folder, IR folder or .gguf")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free; the first line says which")
    parser.add_argument("--most", type=int, default=256, help="requests at a time")
    options = parser.parse_args()
    llm = ovgen.LLM(options.model)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(llm, options.host, options.port, options.most))
    print(f"stopped after {llm.metrics.requests} texts", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (ovgen.OvgenError, OSError) as error:
        sys.exit(f"serve.py: {error}")
