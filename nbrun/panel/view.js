// The panel itself: builds the page's elements once, and brings them up to date when the store says that it changed.

const STATES = {
  running: ["▸", "Running"], paused: ["‖", "Paused"], draining: ["▸", "Stopping: running tasks still end"],
  stopped: ["■", "Stopped"], done: ["✓", "Done"], halted: ["!", "Halted"], lost: ["?", "Lost"],
};

class View {
  constructor(model, store, el) {
    this.model = model;
    this.store = store;
    this.pending = new Map(); // id of a click -> its button
    this.samples = new Samples(store, (number) => this.openSample(number));
    this.sample = new Sample(store, () => this.openSample(-1));
    this.chart = new Chart();
    this.errors = new Errors((...click) => this.act(...click), (id) => this.openSample(store.names.indexOf(id)));
    this.endpoints = new Endpoints();
    this.log = new Log();
    this.build();
    el.append(this.root);
    this.listener = (what) => this.hear(what);
    store.views.add(this.listener);
    this.clock = setInterval(() => document.hidden || this.drawTimes(), 1000);
    this.drawAll();
  }

  build() {
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
    this.workers = h("input", { type: "number", min: "1", max: "100000", step: "1", "aria-label": "Workers", "data-lm-suppress-shortcuts": "true",
      onchange: () => this.setWorkers(), onkeydown: (event) => event.stopPropagation() });
    this.root = h("div", { class: "nbrun-panel", role: "region", "aria-label": "nbrun", "data-jp-suppress-context-menu": "true" },
      h("div", { class: "nbrun-top" }, this.state, this.results, this.times),
      this.overall,
      h("div", { class: "nbrun-middle" }, h("div", { class: "nbrun-words" }, this.count, this.legend, this.verdicts), this.chart.element),
      this.notice, this.end,
      h("div", { class: "nbrun-controls" }, this.pause, this.resume, this.stop, this.question, this.retry,
        h("label", { class: "nbrun-workers" }, "Workers ", this.workers)),
      this.answer, this.samples.element, this.sample.element, this.errors.element, this.endpoints.element, this.log.element);
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

  openSample(sample) {
    this.samples.opened = sample;
    this.samples.list.draw();
    if (sample < 0) return this.samples.list.scroller.focus();
    this.sample.open(sample);
    this.sample.element.scrollIntoView({ block: "nearest" });
  }

  say(text, failed = false) {
    setText(this.answer, text);
    this.answer.classList.toggle("nbrun-failed", failed);
  }

  // ---- what the store tells

  hear(what) {
    if (what.kind === "answer") {
      this.sample.hear(what);
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
    if (state === "lost") this.forget();
    if (this.rowsChanged || !this.drawn) this.samples.refresh();
    this.sample.refresh();
    const { kinds, endpoints, logs, chart } = this.store.parts;
    this.errors.draw(kinds, !this.retry.disabled, this.store.head.errors);
    this.endpoints.draw(endpoints);
    this.log.draw(logs);
    this.chart.draw(chart, this.store.head.rate);
    this.rowsChanged = false;
    this.drawn = true;
    this.coverStatic();
  }

  /** Nobody will answer what was clicked. */
  forget() {
    for (const pressed of this.pending.values()) pressed.removeAttribute("aria-busy");
    this.pending.clear();
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
    const known = head.done + head.errors + head.running + head.queued;
    const total = Math.max(head.total ?? 0, known);
    const judgeDone = head.verdicts.find(([name]) => name === "JudgeError")?.[1] ?? 0;
    const parts = segments({ ...head, judge: head.judge_errors }, judgeDone);
    paint(this.overall, parts, total);
    setAttribute(this.overall, "aria-valuenow", head.done + head.errors);
    setAttribute(this.overall, "aria-valuemax", total);
    setAttribute(this.overall, "aria-valuetext", head.count);
    const percent = (100 * (head.done + head.errors)) / head.total;
    const share = head.total ? `${percent < 10 ? percent.toFixed(percent < 1 ? 2 : 1) : Math.floor(percent)} % · ` : "";
    const of = head.samples_total === null ? "" : ` of ${number(head.samples_total)}`;
    const unsaved = head.unsaved ? ` · ${plural(head.unsaved, "result")} waiting to be saved` : "";
    setText(this.count, `${share}${head.count} · ${number(head.samples_done)}${of} samples finished${unsaved}`);
    const left = Math.max(0, total - known) + head.queued;
    const said = [...SIGNS.map(([name, sign, word]) => [name, sign, word, parts[name]]), ["left", "", "left", left]];
    this.drawLegend(said.filter(([name, , , n]) => n || (name === "left" && !ENDED.includes(head.state))), head.total === null);
    const verdicts = head.verdicts.filter(([name]) => name !== "Accepted").sort((a, b) => b[1] - a[1]);
    setText(this.verdicts, verdicts.slice(0, 12).map(([name, n]) => `${clip(name, 40)} ${number(n)}`).join(" · "));
  }

  drawLegend(parts, open) {
    while (this.legend.children.length > parts.length) this.legend.lastChild.remove();
    parts.forEach(([name, sign, word, n], i) => {
      const item = this.legend.children[i] ?? this.legend.appendChild(h("span", {}, h("i", { "aria-hidden": "true" }), h("span")));
      setAttribute(item.firstChild, "class", `nbrun-swatch nbrun-is-${name}`);
      setText(item.firstChild, sign);
      const one = n === 1 && word.endsWith("errors");
      setText(item.lastChild, name === "left" && open ? `${number(n)} left, more may come` : `${number(n)} ${one ? word.slice(0, -1) : word}`);
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
    const size = head.disk ? ` (${head.disk})` : "";
    setText(this.results, head.results ? `Results: ${head.results}${size}` : "");
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
    enable(this.resume, live && state === "paused");
    enable(this.stop, live && ["running", "paused", "draining"].includes(state));
    const over = ENDED.includes(head.state);
    enable(this.retry, live && !over && head.errors > 0);
    setAttribute(this.retry, "title", over ? "The run has ended. Start it again: what ended in errors is tried again." : "");
    enable(this.workers, live && !over && !!head.workers);
    if (this.stop.disabled && !this.question.hidden) this.question.hidden = !(this.stop.hidden = false);
    const busy = document.activeElement === this.workers || this.workers.hasAttribute("aria-busy");
    if (!busy && head.workers) this.workers.value = head.workers;
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
