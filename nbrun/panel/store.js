// The browser's copy of a run's state: reads the messages described in sync.py, asks for what is missing, and notices
// when the kernel is gone. One Store a model, however many views it has.

const COUNTS = ["done", "accepted", "rejected", "errors", "judge_errors", "seen", "unexpected"];
const NOW = ["running", "waiting"]; // tasks that are in these states
const SECTIONS = ["kinds", "logs", "endpoints", "chart"];
const NO_HEAD = {
  can: [],
  verdicts: [],
  quality: [],
  errors: 0,
  unexpected: 0,
  message: "",
  results: "",
  next: "",
  end: "",
};
const noSections = () => ({ kinds: [], logs: [], endpoints: [], chart: [1, []] }); // the chart's step, and its rates
const ENDED = ["done", "stopped", "halted"];

class Store {
  constructor(model) {
    this.model = model;
    // As saved with the page, until the kernel's first message.
    this.head = { ...NO_HEAD, ...JSON.parse(model.get("last") || "{}") };
    this.headAt = 0; // performance.now() when the head came
    this.names = [];
    this.columns = Object.fromEntries(["total", ...COUNTS, ...NOW].map((name) => [name, new Uint32Array(64)]));
    this.sections = noSections();
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

  /** All counts of a sample; zeros for -1, a sample that was not read yet. */
  countsOf(i) {
    return Object.fromEntries(Object.entries(this.columns).map(([name, column]) => [name, column[i] ?? 0]));
  }

  /** What the bar of a sample with these counts shows. */
  segmentsOf(counts) {
    const bit = this.head.verdicts.findIndex(([name]) => name === "JudgeError");
    const hasJudgeErrors = bit >= 0 && counts.seen & (1 << Math.min(31, bit));
    return segments(counts, hasJudgeErrors ? Math.max(0, counts.done - counts.accepted - counts.rejected) : 0);
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
    const { kind, seq } = content;
    if (kind === "all" || (kind === "delta" && seq === this.seq + 1)) this.apply(content, buffers);
    else if (kind === "delta" && seq > this.seq)
      this.ask("hello", 0); // one is missing
    else if (kind === "pong" && seq !== this.seq) setTimeout(() => seq > this.seq && this.ask("hello", 0), 100); // unless it is on its way
  }

  apply(content, buffers) {
    const news = this.unpack(content.layout ?? [], buffers?.[0]);
    const isAll = content.kind === "all";
    if (isAll) {
      this.names = [];
      this.sections = noSections();
      this.kinds = [];
      this.head = { ...NO_HEAD };
      for (const column of Object.values(this.columns)) column.fill(0);
    }
    this.add(news.names ?? [], news.total ?? []);
    for (const name of COUNTS) this.set(this.columns[name], news[name], news.at);
    for (const name of NOW) this.set(this.columns[name], news[name], news[`${name}_at`]);
    for (const name of SECTIONS) if (content[name]) this.sections[name] = content[name];
    if (content.kind_counts)
      this.sections.kinds = this.sections.kinds.map((kind, i) => ({ ...kind, n: content.kind_counts[i] }));
    if (content.kinds || content.kind_counts) this.kinds = this.sections.kinds.filter(({ n }) => n);
    if ("elapsed" in content.head) this.headAt = performance.now();
    Object.assign(this.head, content.head);
    this.seq = content.seq;
    this.notify(content.layout?.length || isAll ? "rows" : "head");
  }

  /** Sets a column's values at these places, or from the first on. */
  set(column, values = [], places = null) {
    if (!places) column.set(values);
    else values.forEach((value, i) => (column[places[i]] = value));
  }

  add(names, totals) {
    const start = this.names.length;
    this.names = this.names.concat(names);
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
