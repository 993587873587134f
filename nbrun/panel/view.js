// The panel itself: builds the page's elements once, and brings them up to date when the store says that it changed.

const STATES = {
  running: ["▸", "Running"], paused: ["‖", "Paused"], draining: ["▸", "Stopping: running tasks still end"],
  stopped: ["■", "Stopped"], done: ["✓", "Done"], halted: ["!", "Halted"], lost: ["?", "Lost"],
};
const ANSWER_SLOW_MS = 1500;

const duration = (seconds) => {
  const s = Math.round(seconds);
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const first = Math.max(0, parts.findIndex(([n]) => n));
  return (s ? parts.slice(first, first + 2).filter(([n], i) => n || !i) : [[0, "s"]]).map(([n, unit]) => `${n} ${unit}`).join(" ");
};

class View {
  constructor(model, store, el) {
    this.model = model;
    this.store = store;
    this.pending = new Map(); // id of a click -> its button
    this.table = new Table(store);
    this.build();
    el.append(this.root);
    this.listener = (what) => this.hear(what);
    store.views.add(this.listener);
    this.clock = setInterval(() => document.hidden || this.drawTimes(), 1000);
    this.drawAll();
  }

  build() {
    const button = (name, act) => h("button", { type: "button", onclick: (event) => act(event.currentTarget) }, name);
    const send = (kind, more) => (pressed) => this.act(pressed, kind, more);
    this.state = h("span", { class: "nbrun-state" });
    this.results = h("bdi", { class: "nbrun-results" });
    this.times = h("span", { class: "nbrun-times" });
    this.overall = h("div", { class: "nbrun-bar nbrun-overall", role: "progressbar", "aria-label": "All tasks", "aria-valuemin": "0" });
    this.count = h("div", { class: "nbrun-count" });
    this.legend = h("div", { class: "nbrun-legend" });
    this.verdicts = h("div", { class: "nbrun-quiet" });
    this.notice = h("div", { class: "nbrun-notice", role: "status", "aria-live": "polite" });
    this.answer = h("div", { class: "nbrun-answer", role: "status", "aria-live": "polite" });
    this.end = h("div", { class: "nbrun-end" });
    this.pause = button("Pause", send("pause"));
    this.resume = button("Resume", send("resume"));
    this.stop = button("Stop", () => this.askStop(true));
    this.retry = button("Retry errors", send("retry_errors"));
    this.question = h("span", { class: "nbrun-question", role: "group", "aria-label": "How to stop" },
      "Stop: ", button("Let running tasks end", (b) => (this.act(this.stop, "stop", { drain: true }), this.askStop(false, b))),
      button("At once", (b) => (this.act(this.stop, "stop", { drain: false }), this.askStop(false, b))),
      button("Cancel", () => this.askStop(false)));
    this.question.hidden = true;
    this.workers = h("input", { type: "number", min: "1", max: "100000", step: "1", "aria-label": "Workers",
      onchange: () => this.setWorkers(), onkeydown: (event) => event.stopPropagation() });
    this.filter = h("input", { type: "search", role: "searchbox", placeholder: "Find a sample", "aria-label": "Find a sample by its id",
      oninput: () => this.table.search(this.filter.value), onkeydown: (event) => event.stopPropagation() });
    this.errorsTitle = h("span");
    this.errorList = h("div");
    this.errors = h("details", { class: "nbrun-errors" }, h("summary", {}, this.errorsTitle), this.errorList);
    this.root = h("div", { class: "nbrun-panel", role: "region", "aria-label": "nbrun", "data-jp-suppress-context-menu": "true" },
      h("div", { class: "nbrun-top" }, this.state, this.results, this.times),
      this.overall, this.count, this.legend, this.verdicts, this.notice, this.end,
      h("div", { class: "nbrun-controls" }, this.pause, this.resume, this.stop, this.question, this.retry,
        h("label", { class: "nbrun-workers" }, "Workers ", this.workers), this.filter),
      this.answer, this.table.element, this.errors);
  }

  // ---- what people do

  act(button, kind, more) {
    const id = this.store.act(kind, more);
    this.pending.set(id, button);
    button.setAttribute("aria-busy", "true");
    this.say("");
    setTimeout(() => this.pending.has(id) && this.say("Waiting: the kernel answers when the running cell ends."), ANSWER_SLOW_MS);
  }

  askStop(open) {
    this.question.hidden = !open;
    this.stop.hidden = open;
    (open ? this.question.querySelector("button") : this.stop).focus();
  }

  setWorkers() {
    const n = Math.round(Number(this.workers.value));
    if (n >= 1) this.act(this.workers, "workers", { n });
    else this.drawControls();
  }

  say(text, failed = false) {
    setText(this.answer, text);
    this.answer.classList.toggle("nbrun-failed", failed);
  }

  // ---- what the store tells

  hear(what) {
    if (what.kind === "answer") {
      const button = this.pending.get(what.id);
      if (!button) return; // another view's click
      this.pending.delete(what.id);
      button.removeAttribute("aria-busy");
      this.say(what.text ?? "", what.failed);
      if (what.failed) this.drawControls();
      return;
    }
    this.rowsChanged ||= what === "rows";
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.drawAll();
    });
  }

  drawAll() {
    const state = this.shownState();
    setAttribute(this.root, "data-state", state);
    const [sign, word] = STATES[state] ?? ["", "Waiting for the kernel"];
    setText(this.state, `${sign} ${word}`);
    this.drawTimes();
    this.drawOverall();
    this.drawWords(state);
    this.drawControls();
    if (this.rowsChanged || !this.drawn) this.table.refresh();
    this.drawErrors();
    this.rowsChanged = false;
    this.drawn = true;
    this.coverStatic();
  }

  shownState() {
    const { lost, head } = this.store;
    return lost && head.state !== "done" ? "lost" : head.state ?? "starting";
  }

  drawTimes() {
    const { head, headAt } = this.store;
    const live = ["running", "paused", "draining"].includes(this.shownState());
    const elapsed = (head.elapsed ?? 0) + (live ? (performance.now() - headAt) / 1000 : 0);
    const ran = this.shownState() === "lost" ? "last seen after" : "ran";
    const words = live ? [head.rate, head.eta, `${duration(elapsed)} so far`] : [head.elapsed === undefined ? "" : `${ran} ${duration(elapsed)}`];
    setText(this.times, words.filter(Boolean).join(" · "));
  }

  drawOverall() {
    const { head } = this.store;
    if (head.done === undefined) return;
    const plain = Math.max(0, head.done - head.accepted - head.rejected);
    const known = head.done + head.errors + head.running + head.queued;
    const total = Math.max(head.total ?? 0, known);
    const left = Math.max(0, total - known) + head.queued;
    const parts = [["accepted", "✓", head.accepted], ["rejected", "✗", head.rejected], ["done", "✓", plain],
      ["errors", "!", head.errors], ["running", "▸", head.running], ["left", "", left]];
    paint(this.overall, parts.slice(0, 5).map(([name, , n]) => [name, n]), total);
    setAttribute(this.overall, "aria-valuenow", head.done + head.errors);
    setAttribute(this.overall, "aria-valuemax", total);
    setAttribute(this.overall, "aria-valuetext", head.count);
    const percent = (100 * (head.done + head.errors)) / head.total;
    const share = head.total ? `${percent < 10 ? percent.toFixed(1) : Math.floor(percent)} % · ` : "";
    const of = head.samples_total === null ? "" : ` of ${number(head.samples_total)}`;
    const unsaved = head.unsaved ? ` · ${number(head.unsaved)} results waiting to be saved` : "";
    setText(this.count, `${share}${head.count} · ${number(head.samples_done)}${of} samples finished${unsaved}`);
    this.drawLegend(parts.filter(([name, , n]) => n || (name === "left" && !ENDED.includes(head.state))), head.total === null);
    const verdicts = Object.entries(head.verdicts).filter(([name]) => name !== "Accepted").sort((a, b) => b[1] - a[1]);
    setText(this.verdicts, verdicts.slice(0, 12).map(([name, n]) => `${name} ${number(n)}`).join(" · "));
  }

  drawLegend(parts, open) {
    while (this.legend.children.length > parts.length) this.legend.lastChild.remove();
    parts.forEach(([name, sign, n], i) => {
      const item = this.legend.children[i] ?? this.legend.appendChild(h("span", {}, h("i", { "aria-hidden": "true" }), h("span")));
      setAttribute(item.firstChild, "class", `nbrun-swatch nbrun-is-${name}`);
      setText(item.firstChild, sign);
      setText(item.lastChild, name === "left" && open ? `${number(n)} left, more may come` : `${number(n)} ${name === "errors" && n === 1 ? "error" : name}`);
    });
  }

  drawWords(state) {
    const { head, lost } = this.store;
    const cell = this.model.get("cell");
    const again = `Run the cell with nbrun.start${cell ? ` (it was cell ${cell})` : ""} again: it goes on with what is missing.`;
    const words = {
      gone: `The kernel of this run is gone. What was saved stays saved. ${again}`,
      silence: `The kernel does not answer: it is gone, or too busy. What was saved stays saved. If it is gone: ${again.charAt(0).toLowerCase()}${again.slice(1)}`,
      connection: "This page has lost its connection to the kernel; the run itself may go on. It is shown again when the connection is back.",
    };
    const notice = state === "lost" ? words[lost] : head.message ?? "";
    setText(this.notice, notice);
    this.notice.hidden = !notice;
    setText(this.results, head.results ? `Results: ${head.results}` : "");
    setAttribute(this.results, "title", head.results ?? "");
    this.drawEnd(state === "lost" ? "" : head.end ?? "", head.next ?? "");
  }

  drawEnd(end, next) {
    this.end.hidden = !end;
    if (this.endShown === end) return;
    this.endShown = end;
    const at = next ? end.indexOf(next) : -1;
    this.end.replaceChildren(...(at < 0 ? [end] : [end.slice(0, at), h("code", {}, next), end.slice(at + next.length)]));
  }

  drawControls() {
    const { head } = this.store;
    const state = this.shownState();
    const live = state !== "lost" && !this.store.lost;
    const enable = (button, on) => (button.disabled = !on);
    enable(this.pause, live && state === "running");
    enable(this.resume, live && (state === "paused" || state === "draining" || state === "halted"));
    enable(this.stop, live && ["running", "paused", "draining"].includes(state));
    enable(this.retry, live && head.errors > 0);
    enable(this.workers, live && !!head.workers);
    if (this.stop.disabled && !this.question.hidden) this.question.hidden = !(this.stop.hidden = false);
    const busy = document.activeElement === this.workers || this.workers.hasAttribute("aria-busy");
    if (!busy && head.workers) this.workers.value = head.workers;
  }

  drawErrors() {
    const { notes, head } = this.store;
    this.errors.hidden = !notes.length;
    if (this.notesShown === notes || !notes.length) return;
    this.notesShown = notes;
    setText(this.errorsTitle, `Last errors (${notes.length} of ${number(Math.max(notes.length, head.errors))})`);
    this.errorList.replaceChildren(...[...notes].reverse().map((note) =>
      h("details", {}, h("summary", {}, h("b", {}, note.type), `: ${note.message.slice(0, 200)} `,
        h("span", { class: "nbrun-quiet" }, h("bdi", {}, note.sample_id), ` · ${note.group} ${note.index}`)),
      h("pre", { tabindex: "0" }, note.traceback || note.message))));
  }

  // ---- the static form beside the widget

  /** While this view lives and has something to show, the static form takes no room. */
  coverStatic() {
    if (this.cover || !this.store.head.state) return;
    const name = `.nbrun-static-${this.model.get("uid")}`;
    this.cover = h("style", {}, `${name}, .jp-OutputArea-child:has(${name}) { display: none !important; }`);
    document.head.append(this.cover);
  }

  close() {
    clearInterval(this.clock);
    cancelAnimationFrame(this.frame);
    this.store.views.delete(this.listener);
    this.cover?.remove();
  }
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
      return () => store.close();
    },
    render({ model, el }) {
      const view = new View(model, store, el);
      return () => view.close();
    },
  };
};
