// Parts around the tables: the throughput chart, the failure that paused a run, kinds of errors, the judge's endpoints,
// the log, and the percentage in the browser's tab.

const TITLE_SIGNS = { paused: "‖", done: "✓", stopped: "■", halted: "!" };
const KINDS_SHOWN = 8;
const ENDPOINTS_SHOWN = 6;
const LOGS_SENT = 50; // lines of the log that travel
const PRINTED = ["stdout", "stderr"]; // levels of lines that were printed

class Chart {
  constructor() {
    this.svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    this.svg.setAttribute("viewBox", "0 0 120 30");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.append(this.line);
    this.top = span("nbrun-quiet");
    this.element = div("nbrun-chart", this.svg, this.top);
  }

  draw([step, rates], rate) {
    this.element.classList.toggle("nbrun-unseen", rates.length < 3); // it keeps its room
    if (this.shown === rates || rates.length < 3) return;
    this.shown = rates;
    const highest = Math.max(...rates, 1e-9);
    const x = (i) => ((120 * i) / rates.length).toFixed(1);
    const y = (value) => (29 - (27 * value) / highest).toFixed(1);
    const steps = rates.map((value, i) => `L${x(i)} ${y(value)}L${x(i + 1)} ${y(value)}`).join("");
    this.line.setAttribute("d", `M0 30${steps}L120 30Z`);
    const span = duration(step * rates.length);
    const perMinute = `${Number((60 * highest).toPrecision(2))}/min`;
    const most = highest >= 1 ? `${number(Number(highest.toPrecision(3)))}/s` : perMinute;
    setText(this.top, `peak ${most} in ${span}`);
    setAttribute(this.svg, "aria-label", `Throughput over ${span}: now ${rate || "nothing"}, at most ${most}`);
  }
}

const wordsOfError = (kind) =>
  `${kind.type}: ${kind.message}\n${kind.sample_id}, ${kind.group} ${kind.index}\n\n${kind.traceback}`;
const placeOfError = ({ sample_id: id, group, index }) =>
  id === undefined ? "" : `last in ${cutMiddle(id, 80)}, ${group} ${index}`;

/** The traceback of the error for which the run paused itself. */
class Failure {
  constructor() {
    this.words = h("b");
    this.where = span("nbrun-quiet");
    this.trace = textBox("Traceback");
    const copied = copyButton("Copy the traceback", () => wordsOfError(this.kind));
    this.element = h(
      "section",
      { class: "nbrun-failure", "aria-label": "Why the run paused", hidden: "" },
      div("nbrun-bar-of-title", this.words, this.where, copied),
      this.trace,
    );
  }

  /** `failing`: the type of that error, or "". */
  draw(kinds, failing) {
    const kind = failing && kinds.find(({ type }) => type === failing);
    const isNew = kind && this.element.hidden;
    this.element.hidden = !kind?.traceback;
    if (!kind) return;
    this.kind = kind;
    setText(this.words, kind.type);
    setText(this.where, placeOfError(kind));
    setText(this.trace, kind.traceback ?? "");
    if (isNew) this.trace.scrollTop = this.trace.scrollHeight; // the last lines matter most
  }
}

/** The percentage before the page's title while a run is live, and its outcome until the page is looked at. */
class Title {
  constructor() {
    this.shown = "";
    this.onLook = () => this.isOver && document.visibilityState === "visible" && this.set("");
    document.addEventListener("visibilitychange", this.onLook);
  }

  draw(state, percent) {
    const words = TITLE_SIGNS[state] ?? (["running", "draining"].includes(state) ? percent : "");
    this.isOver = ENDED.includes(state);
    // A run that had ended when the page was opened is no news.
    if (this.isOver && (!this.shown || document.visibilityState === "visible")) return this.set("");
    this.set(state === "paused" ? `${words} ${percent}`.trim() : words);
  }

  /** Reads the title each time, because the front end changes it when another document is shown. */
  set(words) {
    const { title } = document;
    const bare = title.startsWith(this.shown) ? title.slice(this.shown.length) : title;
    // Of several runs on one page the first that is live is shown.
    if (words && window.nbrunTitle && window.nbrunTitle !== this) return;
    window.nbrunTitle = words ? this : window.nbrunTitle === this ? null : window.nbrunTitle;
    this.shown = words ? `${words} · ` : "";
    if (title !== this.shown + bare) document.title = this.shown + bare;
  }

  close() {
    document.removeEventListener("visibilitychange", this.onLook);
    this.set("");
  }
}

/** A part that can be opened. `fill(value)` brings its content up to date; it is called while the part is open. */
class Fold {
  constructor(className, content, fill) {
    this.fill = fill;
    this.title = h("span");
    const summary = h("summary", {}, this.title);
    this.element = h("details", { class: `nbrun-fold ${className}`, hidden: "" }, summary, ...content);
    this.element.addEventListener("toggle", () => this.fillOpened());
  }

  draw(value, words) {
    this.element.hidden = !value.length;
    setText(this.title, words);
    if (value === this.value) return;
    this.value = value;
    this.fillOpened();
  }

  fillOpened() {
    if (this.element.open) this.fill(this.value);
  }
}

class Errors {
  constructor(act, openSample) {
    this.act = act;
    this.openSample = openSample;
    this.kinds = Object.create(null); // type -> its elements
    this.inside = h("div");
    this.more = div("nbrun-quiet");
    this.fold = new Fold("nbrun-errors", [this.inside, this.more], (kinds) => this.fill(kinds));
    this.element = this.fold.element;
  }

  /** `all`: how many errors there are; a new kind comes a little later. */
  draw(kinds, live, all) {
    this.live = live;
    this.fold.draw(kinds, `${plural(all, "error")} of ${plural(kinds.length, "kind")}`);
    for (const one of Object.values(this.kinds)) one.retry.disabled = !live;
  }

  fill(kinds) {
    const shown = kinds.slice(0, KINDS_SHOWN).map((kind) => {
      const one = (this.kinds[kind.type] ??= this.make(kind.type));
      one.kind = kind;
      setText(one.count, `× ${number(kind.n)}`);
      setText(one.message, clip(kind.message ?? "", 200));
      setText(one.where, placeOfError(kind));
      setText(one.trace, kind.traceback || kind.message || "");
      one.retry.disabled = !this.live;
      return one.element;
    });
    setText(this.more, kinds.length > KINDS_SHOWN ? `and ${plural(kinds.length - KINDS_SHOWN, "more kind")}` : "");
    const { children } = this.inside;
    const isSame = children.length === shown.length && shown.every((element, i) => element === children[i]);
    if (!isSame) this.inside.replaceChildren(...shown);
  }

  make(type) {
    const one = { count: h("span"), message: h("bdi"), where: h("bdi"), trace: textBox(`Traceback of ${type}`) };
    one.retry = button("Try these again", (pressed) => this.act(pressed, ACTIONS.retry_errors, { type }), {
      "aria-label": `Try these again: ${type}`,
    });
    const copied = copyButton(`Copy ${type}`, () => wordsOfError(one.kind));
    const open = button("Open the sample", () => this.openSample(one.kind.sample_id));
    const details = h(
      "details",
      {},
      h("summary", {}, h("b", {}, type), " ", one.count, " · ", one.message),
      div("nbrun-buttons", copied, open, span("nbrun-quiet", one.where)),
      one.trace,
    );
    one.element = div("nbrun-kind", details, one.retry);
    return one;
  }
}

/** Plain words for a circuit breaker's states; other states are shown as the judge names them. */
const ENDPOINT_STATES = { closed: "in use", open: "left alone", "half-open": "being tried" };

const ENDPOINT_COLUMNS = ["Endpoint", "State", "In flight", "Mean time", "Last error"];
const FOLDER_COLUMNS = ["Folder", "State", "Errors", "Mean time", "Saved"]; // the fourth is not used, and unseen

/** The judge's endpoints, or the folders of a watch. */
class Endpoints {
  constructor() {
    this.rows = [];
    this.headers = ENDPOINT_COLUMNS.map((name) => columnHeader(name));
    this.list = new List({
      label: "Endpoints of the judge",
      shown: ENDPOINTS_SHOWN,
      columns: this.headers,
      open: () => {},
      makeRow: () => this.row(),
    });
    this.list.element.classList.add("nbrun-endpoints");
    this.fold = new Fold("", [this.list.element], (rows) => {
      this.rows = rows;
      this.list.resize(rows.length);
    });
    this.element = this.fold.element;
  }

  draw(rows, areFolders) {
    (areFolders ? FOLDER_COLUMNS : ENDPOINT_COLUMNS).forEach((name, i) => setText(this.headers[i], name));
    this.headers[3].classList.toggle("nbrun-unseen", areFolders);
    const states = {};
    for (const [, word] of rows) {
      const state = ENDPOINT_STATES[word] ?? word;
      states[state] = (states[state] ?? 0) + 1;
    }
    const said = Object.entries(states)
      .map(([state, n]) => `${number(n)} ${state}`)
      .join(", ");
    if (areFolders) return this.fold.draw(rows, `Folders: ${said}`);
    const flying = rows.reduce((sum, row) => sum + (row[2] ?? 0), 0);
    this.fold.draw(rows, `Endpoints: ${said}; ${plural(flying, "request")} in flight`);
  }

  row() {
    const cells = Array.from({ length: 5 }, () => h("div", { role: "gridcell" }));
    const element = h("div", { role: "row", class: "nbrun-row" }, ...cells);
    const show = (place) => {
      const [name, state, flying, mean, error] = this.rows[place];
      const times = [flying === null ? "" : number(flying), mean === null ? "" : seconds(mean)];
      [name, ENDPOINT_STATES[state] ?? state, ...times, error].forEach((text, i) => {
        setText(cells[i], text);
        setAttribute(cells[i], "title", text);
      });
    };
    return { element, show };
  }
}

class Log {
  constructor() {
    this.lines = textBox("Log");
    this.fold = new Fold("", [this.lines], (logs) => {
      const atEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 30;
      setText(this.lines, logs.map((line) => this.words(line)).join("\n"));
      if (atEnd) this.lines.scrollTop = this.lines.scrollHeight;
    });
    this.element = this.fold.element;
  }

  /** What a task printed is shown as it is; a warning or a log record with its level. */
  words({ at, level, text, n }) {
    const time = new Date(1000 * at).toLocaleTimeString("en-GB");
    const kind = PRINTED.includes(level) ? "" : ` ${level}`;
    return `${time}${kind}${n > 1 ? ` (${number(n)} times)` : ""}${kind ? ":" : ""} ${text}`;
  }

  draw(logs) {
    const lines = `${logs.length >= LOGS_SENT ? "the last " : ""}${plural(logs.length, "line")}`;
    this.fold.draw(logs, `Log: ${lines} of what tasks print, warn of and log`);
  }
}
