"""Speaks SandboxFusion's protocol, for Python programs. It isolates nothing: give it only programs that you trust."""

import json
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def run(code, stdin, limit_s):
    began = time.perf_counter()
    program = subprocess.Popen([sys.executable, "-I", "-c", code], stdin=-1, stdout=-1, stderr=-1, text=True)
    try:
        out, err = program.communicate(stdin, timeout=limit_s)
        status, returned = "Finished", program.returncode
    except subprocess.TimeoutExpired:
        program.kill()
        (out, err), status, returned = program.communicate(), "TimeLimitExceeded", None
    result = {"status": status, "execution_time": time.perf_counter() - began, "return_code": returned}
    result |= {"stdout": out, "stderr": err}
    return {"status": "Success" if returned == 0 else "Failed", "compile_result": None, "run_result": result}


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer("pong")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = re.search(r"```python\n(.*?)\n\s*```", body["completion"], re.DOTALL)[1]
        found = []
        for test in body["config"]["provided_data"]["test"]:
            ran = run(code, test["input"]["stdin"], body["config"]["run_timeout"])
            passed = (
                ran["status"] == "Success" and ran["run_result"]["stdout"].split() == test["output"]["stdout"].split()
            )
            found.append({"passed": passed, "exec_info": ran, "test_info": test})
            if not passed and not body["config"]["extra"]["run_all_cases"]:
                break
        self.answer({"id": body["id"], "accepted": all(f["passed"] for f in found), "tests": found})

    def log_message(self, *words):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers)
print(server.server_address[1], flush=True)
server.serve_forever()
