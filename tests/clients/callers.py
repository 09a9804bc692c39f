"""The same calls with the sync and the async client, plain, with raw and with streamed answers."""

import asyncio
import inspect

import openai


class Caller:
    """Calls methods of an SDK client by their names ("files.create") and remembers which."""

    def __init__(self, kind, mode, **options):
        self.loop = asyncio.new_event_loop()
        self.client = (openai.OpenAI if kind == "sync" else openai.AsyncOpenAI)(
            **{"api_key": "unused", "max_retries": 0, "_strict_response_validation": True, **options})
        self.mode, self.called = mode, set()

    def do(self, value):
        """What a call gives, awaited if it has to be."""
        async def waited():
            return await value
        return self.loop.run_until_complete(waited()) if inspect.isawaitable(value) else value

    def resource(self, path):
        found = self.client
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def streamed(self, method, args, options, take="parse"):
        """What `take` gives of an answer that is read while it comes in, and its headers."""
        async def asynchronous():
            async with method(*args, **options) as answer:
                return await getattr(answer, take)(), answer.headers
        if isinstance(self.client, openai.AsyncOpenAI):
            return self.loop.run_until_complete(asynchronous())
        with method(*args, **options) as answer:
            return getattr(answer, take)(), answer.headers

    def content(self, file):
        """The bytes of a file."""
        self.called.add("files.content")
        if self.mode != "streaming":
            return self("files.content", file).read()
        return self.streamed(self.client.files.with_streaming_response.content, (file,), {}, "read")[0]

    def __call__(self, path, *args, **options):
        self.called.add(path)
        resource, name = path.rsplit(".", 1)
        resource = self.resource(resource)
        other = None if self.mode == "plain" else getattr(resource, f"with_{self.mode}_response")
        if other is None or not hasattr(other, name):
            return self.do(getattr(resource, name)(*args, **options))
        if self.mode == "streaming":
            value, headers = self.streamed(getattr(other, name), args, options)
        else:
            answer = self.do(getattr(other, name)(*args, **options))
            value, headers = self.do(answer.parse()), answer.headers
        assert headers["x-request-id"].startswith("req_") and headers["openai-processing-ms"].isdigit()
        assert headers["openai-version"] == "2020-10-01"
        return value

    def all(self, path, *args, **options):
        """The objects of all pages, gone through by the SDK's own iteration."""
        resource, name = path.rsplit(".", 1)
        self.called.add(path)
        pages = getattr(self.resource(resource), name)(*args, **options)

        async def asynchronous():
            return [x async for x in pages]
        if isinstance(self.client, openai.AsyncOpenAI):
            return self.loop.run_until_complete(asynchronous())
        return list(pages)

    def refused(self, kind, path, *args, **options):
        """The error, of exactly this class, of a call that the server refuses."""
        try:
            value = self(path, *args, **options)
        except openai.APIError as e:
            assert type(e) is kind, (path, e)
            return e
        raise AssertionError(f"{path} was not refused: {value}")

    def close(self):
        self.do(self.client.close())
        self.loop.close()


def methods(client, path):
    """The names of a resource's own methods and those of what lies below it."""
    resource = client
    for name in path.split("."):
        resource = getattr(resource, name)
    for name in dir(type(resource)):
        if name.startswith(("_", "with_")):
            continue
        value = getattr(resource, name)
        if callable(value):
            yield f"{path}.{name}"
        else:
            yield from methods(client, f"{path}.{name}")
