"""A server that speaks as vLLM does where it is asked: health, a token, requests, models.

A prompt `hold` is answered when somebody asks for `/finish`. Beside the name of its model it tells
what the model's own files say.
"""

STAND_IN = """\
import http.server, json, pathlib, sys, threading

flags = {name: value for name, _, value in (word.partition("=") for word in sys.argv[1:])}
length = int(flags.get("--max-model-len", 2048))
if length > 4096:
    sys.exit("Value error, User-specified max_model_len is greater than the derived one (4096)")
running, finish = [0], threading.Event()

def models():
    files = pathlib.Path(flags["--model"], "config.json")
    one = {"id": flags["--served-model-name"], "max_model_len": length}
    return {"data": [one | json.loads(files.read_text())]}

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/finish":
            finish.set()
        if self.path == "/v1/models":
            return self.say(json.dumps(models()))
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
