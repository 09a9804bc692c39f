"""A relay before the server that loses answers, so that an SDK sends its request again."""

import socket
import threading

SERVER_ERROR = (b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n"
                b"content-length: 2\r\nretry-after-ms: 1\r\n\r\n{}")


class Relay:
    """Each request reaches the server and is answered by it. Of the first `lose` POSTs the client sees
    no answer: `how` is "close" (the connection ends), "error" (500 instead) or "silence"."""

    def __init__(self, server, lose, how):
        self.port, self.lose, self.how = server.port, lose, how
        self.posts = []  # heads, as text
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def message(source, before=b""):
        """One message with a Content-Length: its head as text and all its bytes; None at the end."""
        data = before
        while b"\r\n\r\n" not in data:
            more = source.recv(65536)
            if not more:
                return None
            data += more
        head, rest = data.split(b"\r\n\r\n", 1)
        text = head.decode("latin1").lower()
        left = int(text.split("content-length:")[1].split("\r\n")[0]) if "content-length:" in text else 0
        while len(rest) < left:
            rest += source.recv(65536)
        return text, head + b"\r\n\r\n" + rest

    def serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            while (asked := self.message(client)) is not None:
                server.sendall(asked[1])
                answer = self.message(server)
                if asked[0].startswith("post"):
                    self.posts.append(asked[0])
                    if self.lose > 0:
                        self.lose -= 1
                        if self.how == "close":
                            return
                        if self.how == "silence":
                            client.recv(1)  # until the client has had enough
                            return
                        client.sendall(SERVER_ERROR)
                        continue
                client.sendall(answer[1])

    def close(self):
        self.listener.close()
