// The browser's copy of a run's state: reads the messages described in sync.py, asks for what is missing, and notices
// when the kernel is gone. One Store a model, however many views it has.

const COUNTS = ["done", "accepted", "rejected", "errors", "judge_errors", "seen", "unexpected"];
const SECTIONS = ["kinds", "logs", "endpoints", "chart"];
const ENDED = ["done", "stopped", "halted"];

/** The head as it was when the page was saved. */
function readLast(model) {
  try {
    return JSON.parse(model.get("last") || "{}");
  } catch {
    return {};
  }
}

class Store {
  constructor(model) {
    this.model = model;
    this.head = readLast(model); // as saved with the page, until the kernel's first message
    this.headAt = 0; // performance.now() when the head came
    this.names = [];
    this.columns = Object.fromEntries(["total", ...COUNTS, "work", "wait"].map((name) => [name, new Uint32Array(64)]));
    this.sections = {};
    this.kinds = []; // of errors: those of the section that some task ended in
    this.seq = 0;
    this.lost = ""; // why, in words, or ""
    this.views = new Set(); // called with what changed: "rows", "head", "lost", or an answer
    this.messageAt = performance.now();
    this.askedAt = 0;
    this.unanswered = 0; // questions in a row without an answer
    this.clicks = new Map(); // id -> [content, times sent] of those not answered yet
    this.asked = 0;
    this.page = Math.random().toString(36).slice(2);
    model.on("msg:custom", (content, buffers) => this.receive(content, buffers));
    model.on("comm:close", () => this.setLost("gone"));
    model.on("comm_live_update", () => this.ask("ping"));
    this.kernel = model.widget_manager?.kernel; // in JupyterLab and Notebook; elsewhere pings show whether it lives
    this.onStatus = (_, status) => /restarting|dead|terminating/.test(status) && this.setLost("gone");
    this.kernel?.statusChanged?.connect(this.onStatus);
    this.ask("ping"); // the first message starts the subshell in which clicks are served while a cell runs
    this.first = setTimeout(() => this.seq || this.ask("hello"), 600); // that one may wait behind a running cell
    this.timer = setInterval(() => this.watch(), 1000);
  }

  close() {
    clearTimeout(this.first);
    clearInterval(this.timer);
    this.kernel?.statusChanged?.disconnect(this.onStatus);
  }

  notify(what) {
    for (const view of this.views) view(what);
  }

  /** Whether anything came from the kernel yet. */
  get hasMessages() {
    return this.seq > 0;
  }

  get size() {
    return this.names.length;
  }

  /** What the bar of a sample shows. */
  segmentsOf(i) {
    const { done, accepted, rejected, errors, judge_errors: judge, work, wait, seen } = this.columns;
    const bit = this.head.verdicts?.findIndex(([name]) => name === "JudgeError") ?? -1;
    const judgeDone =
      bit >= 0 && seen[i] & (1 << Math.min(31, bit)) ? Math.max(0, done[i] - accepted[i] - rejected[i]) : 0;
    return segments(
      {
        done: done[i],
        accepted: accepted[i],
        rejected: rejected[i],
        errors: errors[i],
        judge: judge[i],
        running: work[i],
        waiting: wait[i],
      },
      judgeDone,
    );
  }

  // ---- from the kernel

  receive(content, buffers) {
    this.messageAt = performance.now();
    this.unanswered = 0;
    if (this.lost && this.lost !== "gone") this.setLost("");
    if (content.kind === "answer") {
      this.clicks.delete(content.id);
      this.notify({ ...content, columns: this.unpack(content.layout ?? [], buffers?.[0]) });
    }
    if (content.kind === "pong") this.compare(content.seq);
    else if (content.kind === "all") this.apply(content, buffers, true);
    else if (content.kind === "delta") {
      if (content.seq === this.seq + 1) this.apply(content, buffers, false);
      else if (content.seq > this.seq) this.ask("hello", 0); // one is missing
    }
  }

  compare(seq) {
    if (seq === this.seq) return;
    setTimeout(() => seq > this.seq && this.ask("hello", 0), 100); // unless it is on its way
  }

  apply(content, buffers, all) {
    const news = this.unpack(content.layout ?? [], buffers?.[0]);
    if (all) {
      this.names = [];
      this.sections = {};
      this.kinds = [];
      this.head = {};
      for (const column of Object.values(this.columns)) column.fill(0);
    }
    this.add(news.names ?? [], news.total ?? []);
    const at = news.at;
    for (const name of COUNTS) {
      const values = news[name];
      if (!values) continue;
      if (!at) this.columns[name].set(values);
      else for (let i = 0; i < at.length; i++) this.columns[name][at[i]] = values[i];
    }
    for (const name of ["work", "wait"]) {
      const places = news[`${name}_at`] ?? [];
      for (let i = 0; i < places.length; i++) this.columns[name][places[i]] = news[name][i];
    }
    for (const name of SECTIONS) if (content[name]) this.sections[name] = content[name];
    if (content.kind_counts)
      this.sections.kinds = this.sections.kinds?.map((kind, i) => ({ ...kind, n: content.kind_counts[i] }));
    if (content.kinds || content.kind_counts) this.kinds = this.sections.kinds?.filter(({ n }) => n);
    if ("elapsed" in content.head) this.headAt = performance.now();
    Object.assign(this.head, content.head);
    this.seq = content.seq;
    this.notify(content.layout?.length || all ? "rows" : "head");
  }

  add(names, totals) {
    const start = this.names.length;
    for (const name of names) this.names.push(name);
    if (this.names.length > this.columns.total.length) {
      for (const [name, old] of Object.entries(this.columns)) {
        this.columns[name] = new Uint32Array(2 * this.names.length);
        this.columns[name].set(old);
      }
    }
    this.columns.total.set(totals, start);
  }

  unpack(layout, buffer) {
    const columns = {};
    if (!buffer) return columns;
    const bytes = ArrayBuffer.isView(buffer)
      ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
      : new Uint8Array(buffer);
    let offset = 0;
    for (const [name, length, width] of layout) {
      const part = bytes.slice(offset, (offset += length * width)); // a copy starts aligned
      if (name === "names") columns[name] = JSON.parse(new TextDecoder().decode(part));
      else columns[name] = width === 1 ? part : new (width === 2 ? Uint16Array : Uint32Array)(part.buffer);
    }
    return columns;
  }

  // ---- to the kernel

  ask(kind, seq = this.seq) {
    this.askedAt = performance.now();
    this.unanswered++;
    this.send({ kind, seq });
  }

  /** Sends a click; answers come to the views with the id that this returns. */
  act(kind, more = {}) {
    const id = `${this.page}-${++this.asked}`;
    this.clicks.set(id, [{ kind, id, ...more }, 0]);
    this.push(id);
    return id;
  }

  /** A message that went out before the subshell was there waits behind the running cell: so it is sent again, with the
   * same id, of which the kernel takes the first that comes. */
  push(id) {
    const click = this.clicks.get(id);
    if (!click || this.lost === "gone" || click[1]++ > 5) return;
    this.send(click[0]);
    setTimeout(() => this.push(id), 400 * 2 ** click[1]);
  }

  send(content) {
    try {
      this.model.send(content);
    } catch {
      this.setLost("gone"); // the comm is closed
    }
  }

  // ---- is the kernel there?

  watch() {
    if (this.lost === "gone") return;
    const now = performance.now();
    if (!this.seq) return this.retry(now);
    if (this.kernel) {
      if (this.kernel.isDisposed) return this.setLost("gone");
      const connected = (this.kernel.connectionStatus ?? "connected") === "connected";
      if (connected && this.lost === "connection") this.ask("hello"); // what came meanwhile was missed
      this.offSince = connected ? 0 : this.offSince || now;
      if (this.offSince && now - this.offSince > 6000) this.setLost("connection");
    } else if (!document.hidden && !ENDED.includes(this.head.state)) {
      if (this.unanswered && now - this.messageAt > 8000) this.setLost("silence");
      if (now - this.messageAt > 4000 && now - this.askedAt > 4000) this.ask("ping");
    }
  }

  /** Asks again while nothing came from the kernel. A page without one (an export) shows how the run ended. */
  retry(now) {
    if (ENDED.includes(this.head.state) && this.unanswered > 6) return;
    // The first question may wait behind a running cell; those after it take the subshell that it opened.
    if (this.unanswered > 6) this.setLost("silence");
    if (now - this.askedAt > 1200 * Math.max(1, this.unanswered)) this.ask("hello");
  }

  setLost(why) {
    if (this.lost === why) return;
    this.lost = why;
    this.notify("lost");
  }
}
