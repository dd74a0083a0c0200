"""A server that speaks as vLLM does where updates ask it: health, a token, running requests.

A prompt `hold` is answered when somebody asks for `/finish`.
"""

STAND_IN = """\
import http.server, json, sys, threading

length = [word for word in sys.argv if word.startswith("--max-model-len=")]
if length and int(length[0].partition("=")[2]) > 4096:
    sys.exit("Value error, User-specified max_model_len is greater than the derived one (4096)")
running, finish = [0], threading.Event()

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/finish":
            finish.set()
        self.say('vllm:num_requests_running{engine="0"} %d.0\\n' % running[0])

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        running[0] += 1
        if asked["prompt"] == "hold":
            finish.wait(1200)
        text = {"choices": [{"text": "whole"}], "usage": {"completion_tokens": 1}}
        running[0] -= 1
        self.say(json.dumps(text))

    def say(self, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

http.server.ThreadingHTTPServer(("", 8000), Answer).serve_forever()
"""
BREAKS = 'raise RuntimeError("this version cannot serve")\n'
