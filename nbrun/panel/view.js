// The panel itself: builds its elements once, and updates them when the store has changed.

const STATES = {
  running: ["▸", "Running"],
  paused: ["‖", "Paused"],
  draining: ["▸", "Stopping: running tasks still end"],
  stopped: ["■", "Stopped"],
  done: ["✓", "Done"],
  halted: ["!", "Halted"],
  lost: ["?", "Lost"],
};
// of a watch, which only reads: its runs are steered elsewhere
const WATCH_STATES = { ...STATES, paused: ["‖", "No run at work"], stopped: ["■", "No longer watched"] };
const LIVE = ["running", "paused", "draining"];
const ANSWER_SHOWN_MS = 10_000;
// Of the panel with its border and padding, since that is narrower in a narrow panel.
const NARROW_PX = 590; // below it a row of a table has two lines
const NARROW_TASKS_PX = 790; // tasks have more columns than samples

class View {
  constructor(model, store, el) {
    this.model = model;
    this.store = store;
    this.pending = new Map(); // id of a click -> its button
    this.samples = new Samples(store, (number) => this.openSample(number));
    this.sample = new Sample(store, () => this.openSample(-1));
    this.chart = new Chart();
    const act = this.act.bind(this);
    this.controls = new Controls(act);
    this.errors = new Errors(act, (id) => this.openSample(store.names.indexOf(id)));
    this.failure = new Failure();
    this.endpoints = new Endpoints();
    this.log = new Log();
    this.build();
    el.classList.add("nbrun-view");
    el.append(this.root);
    this.title = new Title();
    this.listener = (what) => this.onChange(what);
    store.views.add(this.listener);
    this.clock = setInterval(() => document.hidden || this.drawTimes(), 1000);
    this.sizes = new ResizeObserver(() => this.fit(this.root.offsetWidth));
    this.sizes.observe(this.root);
    this.drawAll();
  }

  build() {
    this.overall = new Bar({ class: "nbrun-overall", "aria-label": "All tasks" });
    this.count = div("nbrun-count");
    this.legend = div("nbrun-legend");
    const words = div("nbrun-words", this.count, this.legend);
    this.root = h(
      "div",
      {
        class: "nbrun-panel",
        role: "region",
        "aria-label": "nbrun",
        tabindex: "-1",
        "data-jp-suppress-context-menu": "true",
      },
      this.makeTop(),
      this.overall.element,
      div("nbrun-middle", words, this.chart.element),
      this.makeQuality(),
      div("nbrun-controls", ...this.controls.row, this.makeResults()),
      this.makeStrip(),
      ...[this.failure, this.samples, this.sample, this.errors, this.endpoints, this.log].map(({ element }) => element),
    );
  }

  makeTop() {
    this.headline = span("nbrun-headline");
    this.left = span("nbrun-left");
    this.state = span("nbrun-state");
    this.times = span("nbrun-times");
    return div("nbrun-top", this.headline, this.left, span("nbrun-side", this.state, this.times));
  }

  makeQuality() {
    this.unexpected = button("", () => this.toggleUnexpected(), {
      class: "nbrun-chip",
      "aria-pressed": "false",
      title: "Show the samples with unexpected verdicts",
    });
    this.rates = span("nbrun-rates");
    this.verdicts = span("nbrun-quiet");
    return div("nbrun-quality", this.unexpected, this.rates, this.verdicts);
  }

  makeResults() {
    this.path = new Id();
    this.size = h("span");
    const copyPath = copyButton("Copy the path of the results", () => this.store.head.results);
    this.results = span("nbrun-results", this.path.element, this.size, copyPath);
    return this.results;
  }

  /** Notices, answers and the end. It has room for two lines from the beginning, so that a notice moves nothing. */
  makeStrip() {
    const spoken = { role: "status", "aria-live": "polite" };
    this.notice = h("div", { class: "nbrun-notice", ...spoken });
    this.answer = h("div", { class: "nbrun-answer", ...spoken });
    this.end = div("nbrun-end");
    this.endShown = ""; // its text
    this.rest = div("nbrun-quiet nbrun-rest");
    this.strip = h(
      "div",
      { class: "nbrun-strip", tabindex: "0", role: "group", "aria-label": "Notices" },
      ...[this.answer, this.notice, ...this.controls.notice, this.end, this.rest],
    );
    return this.strip;
  }

  fit(width) {
    this.isNarrow = width < NARROW_PX;
    this.root.classList.toggle("nbrun-narrow", this.isNarrow);
    this.samples.list.setNarrow(this.isNarrow);
    this.endpoints.list.setNarrow(this.isNarrow);
    this.sample.list.setNarrow(width < NARROW_TASKS_PX);
  }

  // ---- what people do

  /** Sends an action. `element`, which was clicked, is busy until the answer comes. */
  act(element, action, more) {
    const id = this.store.act(action.name, more);
    this.pending.set(id, element);
    element.setAttribute("aria-busy", "true");
    this.showAnswer("");
    setTimeout(
      () => this.pending.has(id) && this.showAnswer("Waiting: the kernel answers when the running cell ends."),
      ANSWER_SLOW_MS,
    );
  }

  toggleUnexpected() {
    this.samples.choose({ state: this.samples.state === "unexpected" ? "all" : "unexpected" });
    this.drawQuality();
  }

  openSample(sample) {
    this.samples.opened = sample;
    this.samples.list.draw();
    if (sample < 0) return this.samples.list.element.focus();
    this.sample.open(sample);
  }

  showAnswer(text, failed = false) {
    setText(this.answer, text);
    this.answer.classList.toggle("nbrun-failed", failed);
    clearTimeout(this.answerTimer);
    if (text && !failed) this.answerTimer = setTimeout(() => this.showAnswer(""), ANSWER_SHOWN_MS);
    this.drawRest();
  }

  // ---- changes of the store

  onChange(what) {
    if (what.kind === "answer") {
      this.sample.onAnswer(what);
      this.samples.onAnswer(what);
      if (!this.pending.has(what.id)) return; // another view's click
      this.endWait(what.id);
      this.showAnswer(what.text ?? "", what.failed);
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
    this.drawTop(state);
    this.drawTimes();
    this.drawOverall();
    this.drawQuality();
    this.drawNotices(state);
    this.drawControls();
    if (state === "lost") for (const id of this.pending.keys()) this.endWait(id); // the answers will never come
    if (this.rowsChanged || !this.drawn) this.samples.refresh();
    else this.samples.drawNote();
    this.sample.refresh();
    const { kinds, head, hasMessages } = this.store;
    const { endpoints, logs, chart } = this.store.sections;
    this.errors.draw(kinds, this.controls.allows(ACTIONS.retry_errors), head.errors);
    this.failure.draw(kinds, state === "lost" ? "" : head.failing);
    this.endpoints.draw(endpoints, !!head.watched);
    this.log.draw(logs);
    this.chart.draw(chart, head.rate);
    this.title.draw(hasMessages ? state : "", this.percent());
    this.samples.element.hidden = !hasMessages && !!head.state; // a saved page knows the sums alone
    this.rowsChanged = false;
    this.drawn = true;
    this.hideStatic();
  }

  /** Ends the wait for the answer to a click. */
  endWait(id) {
    this.pending.get(id).removeAttribute("aria-busy");
    this.pending.delete(id);
  }

  /** The state to show: a run that has ended is not lost with its kernel. */
  shownState() {
    const { lost, head } = this.store;
    return lost && !ENDED.includes(head.state) ? "lost" : (head.state ?? "starting");
  }

  /** How much has ended: "42 %"; "" while the total is unknown. Only all of it is 100 %. */
  percent() {
    const { head } = this.store;
    if (!head.total) return "";
    const percent = (100 * (head.done + head.errors)) / head.total;
    return `${percent < 10 && percent > 0 ? percent.toFixed(percent < 1 ? 2 : 1) : Math.floor(percent)} %`;
  }

  /** What people look for first, in large: how far it is, and how much time is left. */
  drawTop(state) {
    const { head } = this.store;
    const [sign, word] = (head.watched ? WATCH_STATES : STATES)[state] ?? ["", "Waiting for the kernel"];
    const hasErrors = state === "done" && head.errors > 0;
    this.root.classList.toggle("nbrun-has-errors", hasErrors);
    const soFar = head.done === undefined ? "…" : this.percent() || plural(head.done + head.errors, "task");
    const outcome = hasErrors ? `! Done, ${plural(head.errors, "error")}` : "✓ Done";
    setText(this.headline, state === "done" ? outcome : soFar);
    const left = { done: "", running: head.eta || "" };
    setText(this.left, left[state] ?? `${sign} ${word}`);
    setText(this.state, state === "running" ? `${sign} ${word}` : "");
  }

  drawTimes() {
    const { head, headAt, lost } = this.store;
    const state = this.shownState();
    const isClockOn = ["running", "draining"].includes(state) && !lost && this.store.hasMessages; // a pause takes no time
    const elapsed = (head.elapsed ?? 0) + (isClockOn ? (performance.now() - headAt) / 1000 : 0);
    const ran = state === "lost" ? "last seen after" : "ran";
    const words = LIVE.includes(state)
      ? [head.rate, `${duration(elapsed)} so far`]
      : [head.elapsed === undefined ? "" : `${ran} ${duration(elapsed)}`];
    setText(this.times, words.filter(Boolean).join(" · "));
  }

  drawOverall() {
    const { head } = this.store;
    if (head.done === undefined) return;
    const known = head.done + head.errors + head.running + head.waiting + head.queued;
    const total = Math.max(head.total ?? 0, known);
    const judgeDone = head.verdicts.find(([name]) => name === "JudgeError")?.[1] ?? 0;
    const parts = segments(head, judgeDone);
    this.overall.draw(parts, total, head.unexpected, head.done + head.errors, head.count);
    const of = (n) => (n == null ? "" : ` of ${number(n)}`);
    const samples = `${number(head.samples_done)}${of(head.samples_total)} samples${this.isNarrow ? "" : " complete"}`;
    setText(this.count, `${number(head.done)}${of(head.total)} tasks · ${samples}`);
    const left = Math.max(0, total - known) + head.queued;
    const more = head.total === null ? ", more may come" : "";
    const said = SIGNS.filter(([name]) => parts[name]).map(([name, sign, word]) => {
      const isOne = parts[name] === 1 && word.endsWith("errors");
      return [name, sign, `${number(parts[name])} ${isOne ? word.slice(0, -1) : word}`];
    });
    if (left || !ENDED.includes(head.state)) said.push(["left", "", `${number(left)} left${more}`]);
    if (head.skipped) said.push(["skipped", "", `${number(head.skipped)} skipped`]);
    this.drawLegend(said);
  }

  drawLegend(parts) {
    const { children } = this.legend;
    while (children.length > parts.length) this.legend.lastChild.remove();
    parts.forEach(([name, sign, text], i) => {
      const item = children[i] ?? this.legend.appendChild(h("span", {}, h("i", { "aria-hidden": "true" }), h("span")));
      setAttribute(item.firstChild, "class", `nbrun-swatch nbrun-is-${name}`);
      setText(item.firstChild, sign);
      setText(item.lastChild, text);
    });
  }

  /** Unexpected verdicts, rates, verdicts by name, means. */
  drawQuality() {
    const { head } = this.store;
    this.unexpected.hidden = !head.unexpected;
    this.unexpected.disabled = !this.store.hasMessages; // a saved page knows no samples
    setText(this.unexpected, `${UNEXPECTED} ${number(head.unexpected)} unexpected`);
    setAttribute(this.unexpected, "aria-pressed", this.samples.state === "unexpected");
    setText(this.rates, head.quality.join(" · "));
    const verdicts = head.verdicts.filter(([name]) => name !== "Accepted").sort((a, b) => b[1] - a[1]);
    const words = verdicts
      .slice(0, 12)
      .map(([name, n]) => `${clip(name, 40)} ${number(n)}`)
      .join(" · ");
    setText(this.verdicts, words);
    setAttribute(this.verdicts, "title", words);
  }

  drawNotices(state) {
    const { head, lost } = this.store;
    const notice = state === "lost" ? this.lostNotice(lost) : head.message;
    setText(this.notice, notice);
    this.notice.hidden = !notice;
    this.strip.classList.toggle("nbrun-says", !!notice);
    this.results.hidden = !head.results;
    this.path.show(head.results);
    setText(this.size, head.disk ? ` ${head.disk}` : "");
    this.drawEnd(state === "lost" ? "" : head.end, head.next);
    this.drawRest();
  }

  /** Says why the kernel is lost, and what to do. */
  lostNotice(why) {
    if (why === "connection")
      return (
        "This page has lost its connection to the kernel; the run itself may go on. " +
        "It is shown again when the connection is back."
      );
    const cell = this.model.get("cell");
    const where = cell ? ` (it was cell ${cell})` : "";
    const again = this.store.head.watched
      ? `run the cell with nbrun.watch${where} again to go on watching.`
      : `run the cell with nbrun.start${where} again: it goes on with what is missing.`;
    const saved = "What was saved stays saved.";
    if (why === "gone") return `The kernel of this run is gone. ${saved} ${again.replace("run", "Run")}`;
    return `The kernel does not answer: it is gone, or too busy. ${saved} If it is gone: ${again}`;
  }

  drawEnd(end, next) {
    this.end.hidden = !end;
    if (this.endShown === end) return;
    this.endShown = end;
    const at = end.indexOf(next);
    const copyNext = copyButton("Copy the line that loads the results", () => next);
    this.end.replaceChildren(end.slice(0, at), h("code", {}, next), copyNext, end.slice(at + next.length));
  }

  /** Counts of saved results, while there is no notice. */
  drawRest() {
    const { head } = this.store;
    const rest = [
      head.saved !== undefined && `${plural(head.saved, "result")} saved`,
      head.unsaved && `${number(head.unsaved)} being saved`,
      head.resumed && `${number(head.resumed)} from earlier runs`,
    ];
    setText(this.rest, rest.filter(Boolean).join(" · "));
    this.rest.hidden = !this.notice.hidden || !this.end.hidden || !!this.answer.textContent;
  }

  drawControls() {
    const { lost, head, hasMessages } = this.store;
    this.controls.draw(head, hasMessages && !lost && this.shownState() !== "lost", this.root);
  }

  // ---- the static form beside the widget

  /** Hides the static form while this view has something to show. */
  hideStatic() {
    if (this.cover || !this.store.head.state) return;
    const name = `.nbrun-static-${this.model.get("uid")}`;
    this.cover = h("style", {}, `${name}, .jp-OutputArea-child:has(${name}) { display: none !important; }`);
    document.head.append(this.cover);
  }

  close() {
    clearInterval(this.clock);
    clearTimeout(this.answerTimer);
    cancelAnimationFrame(this.frame);
    this.sizes.disconnect();
    this.title.close();
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
