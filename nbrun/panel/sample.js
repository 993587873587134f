// An opened sample: its tasks, and all that is saved of one task. Both are asked of the kernel when they are needed.

const TASKS_SHOWN = 8;
const ASK_AGAIN_MS = 4000;
/** Columns of tasks: [key, name, width]. One that is empty for all tasks of the sample is left out. */
const TASK_COLUMNS = [
  ["group", "Group", "minmax(min(120px, 14%), 1fr)"],
  ["index", "Index", "44px"],
  ["outcome", "Verdict", "minmax(205px, 1.5fr)"],
  ["time", "Time", "72px"],
  ["attempts", "Attempts", "62px"],
  ["language", "Language", "minmax(min(74px, 9%), 0.8fr)"],
  ["item", "Item", "minmax(0, 3fr)"],
  ["result", "Result", "minmax(0, 3fr)"],
];
const TASK_STATUSES = ["done", "error", "running", "waiting"];

class Sample {
  constructor(store, closed) {
    this.store = store;
    this.number = -1;
    this.tasks = [];
    this.columns = []; // of TASK_COLUMNS those that are shown
    this.title = new Id();
    this.count = span("nbrun-quiet");
    this.verdicts = select("Verdict of tasks", () => this.draw());
    this.heads = TASK_COLUMNS.map(([key, name]) => columnHeader(name, { class: `nbrun-task-${key}` }));
    this.list = new List({
      label: "Tasks of the sample",
      shown: TASKS_SHOWN,
      makeRow: () => new TaskRow(this),
      open: (place) => this.openTask(this.chosen[place]),
      columns: this.heads,
    });
    this.list.element.classList.add("nbrun-tasks");
    this.entry = div("nbrun-entry");
    this.element = h(
      "section",
      { class: "nbrun-sample", "aria-label": "Opened sample", hidden: "" },
      div(
        "nbrun-bar-of-title",
        h("b", {}, this.title.element),
        this.count,
        this.verdicts,
        button("Close", () => this.close(closed)),
      ),
      this.list.element,
      this.entry,
    );
  }

  open(number) {
    this.number = number;
    this.tasks = [];
    this.task = null;
    this.isNew = true;
    this.verdicts.replaceChildren();
    this.verdicts.hidden = true;
    this.entry.replaceChildren();
    this.title.show(this.store.names[number]);
    setText(this.count, "reading…");
    this.element.hidden = false;
    this.list.element.hidden = true;
    this.list.toTop();
    this.ask();
  }

  close(closed) {
    this.number = -1;
    this.element.hidden = true;
    closed();
  }

  ask() {
    this.askedAt = performance.now();
    this.askedAtCounts = this.counts.join();
    const asked = (this.asked = this.store.act("sample", { sample: this.number }));
    setTimeout(
      () => this.asked === asked && setText(this.count, "waiting: the kernel answers when the running cell ends"),
      ANSWER_SLOW_MS,
    );
  }

  /** How many of the tasks are done, in errors, running and waiting. */
  get counts() {
    const { done, errors, running, waiting } = this.store.countsOf(this.number);
    return [done, errors, running, waiting];
  }

  /** Asks for the tasks again, now and then, when their counts have changed. */
  refresh() {
    if (this.number < 0 || this.asked || this.store.lost || document.hidden) return;
    if (this.counts.join() !== this.askedAtCounts && performance.now() - this.askedAt > ASK_AGAIN_MS) this.ask();
  }

  /** Takes an answer of the kernel, if it is to a question of this object. */
  onAnswer(answer) {
    if (answer.id === this.asked) {
      this.asked = "";
      if (answer.failed) return setText(this.count, answer.text);
      this.take(answer);
    } else if (answer.id === this.askedTask) {
      this.askedTask = "";
      this.show(answer);
    }
  }

  take({ columns, names, previews = {} }) {
    this.tasks = Array.from(columns.index ?? [], (index, i) => ({
      index,
      group: names.group[columns.group[i]],
      verdict: names.verdict[columns.verdict[i]],
      language: names.language[columns.language[i]],
      status: TASK_STATUSES[columns.status[i]],
      time: columns.time_ms[i] ? (columns.time_ms[i] - 1) / 1000 : null,
      attempts: columns.attempts[i],
      isUnexpected: !!columns.unexpected[i],
      item: previews.item?.[i] ?? "",
      result: previews.result?.[i] ?? "",
    }));
    const verdicts = ["", ...new Set(this.tasks.map(wordOf))];
    if (this.tasks.some((task) => task.isUnexpected)) verdicts.splice(1, 0, "unexpected");
    const before = this.verdicts.value;
    this.verdicts.replaceChildren(...verdicts.map((name) => h("option", { value: name }, name || "All tasks")));
    this.verdicts.value = verdicts.includes(before) ? before : "";
    this.verdicts.hidden = verdicts.length < 3;
    this.keepTask();
    this.chooseColumns();
    this.draw();
    if (this.isNew) reveal(this.element);
    this.isNew = false;
  }

  /** Keeps the opened task open; asks again for what is saved of it if its status has changed. */
  keepTask() {
    const before = this.task;
    if (!before) return;
    this.task = this.tasks.find(({ group, index }) => group === before.group && index === before.index) ?? before;
    if (this.task.status !== before.status || this.task.attempts !== before.attempts) this.askTask();
  }

  /** Leaves out columns that are empty or the same for all tasks. */
  chooseColumns() {
    const { tasks } = this;
    const any = (has) => tasks.some(has);
    const shown = {
      group: any((task) => task.group !== tasks[0].group),
      index: true,
      outcome: true,
      time: any((task) => task.time !== null),
      attempts: any((task) => task.attempts > 1),
      language: any((task) => task.language),
      item: any((task) => task.item),
      result: any((task) => task.result),
    };
    const columns = TASK_COLUMNS.filter(([key]) => shown[key]);
    this.heads.forEach((head, i) => (head.hidden = !shown[TASK_COLUMNS[i][0]]));
    setText(this.heads[2], any((task) => task.status === "done" && task.verdict) ? "Verdict" : "Status");
    if (columns.join() === this.columns.join()) return;
    this.columns = columns;
    this.list.element.style.setProperty("--nbrun-columns", columns.map(([, , width]) => width).join(" "));
    this.list.rebuild();
  }

  draw() {
    const wanted = this.verdicts.value;
    const matches = (task) => wordOf(task) === wanted || (wanted === "unexpected" && task.isUnexpected);
    this.chosen = wanted ? this.tasks.filter(matches) : this.tasks;
    const all = this.store.columns.total[this.number];
    const left = Math.max(0, all - this.counts.reduce((sum, n) => sum + n, 0));
    setText(this.count, `${plural(all, "task")}${left ? `, ${number(left)} not begun` : ""}`);
    this.list.element.hidden = !this.tasks.length;
    this.list.resize(this.chosen.length);
  }

  openTask(task) {
    if (!task) return;
    this.task = task;
    this.isNewTask = true;
    this.entry.replaceChildren(div("nbrun-quiet", "reading…"));
    this.askTask();
    this.list.draw();
  }

  askTask() {
    const { group, index } = this.task;
    this.askedTask = this.store.act("task", { sample: this.number, group, index });
  }

  show({ facts = [], texts = [], text, failed }) {
    if (failed) texts = [["", text]];
    const { task } = this;
    if (task && isUnfinished(task)) texts = [["", aboutUnfinished(task)], ...texts.filter(([heading]) => heading)];
    const title = task ? `${task.group} ${task.index}` : "";
    this.entry.replaceChildren(
      div(
        "nbrun-bar-of-title",
        h("b", {}, title),
        span("nbrun-quiet nbrun-facts", facts.map(([name, value]) => `${name}: ${value}`).join(" · ")),
      ),
      ...texts.flatMap(([heading, body]) => [div("nbrun-heading", heading), textBox(heading || "Task", body)]),
    );
    if (this.isNewTask) reveal(this.entry);
    this.isNewTask = false;
  }
}

/** Scrolls as little as needed to bring an element into view, its start first. */
function reveal(element) {
  const { top, bottom } = element.getBoundingClientRect();
  element.scrollIntoView({ block: bottom - top > window.innerHeight / 2 ? "start" : "nearest" });
}

const aboutUnfinished = (task) =>
  task.status === "running"
    ? `It has been running for ${seconds(task.time ?? 0)}${task.attempts > 1 ? `, attempt ${task.attempts}` : ""}.`
    : `It waits for attempt ${task.attempts + 1}: ${task.item || "it asked to be tried again"}.`;
const isUnfinished = ({ status }) => status === "running" || status === "waiting";
const wordOf = (task) => (isUnfinished(task) ? task.status : task.verdict || task.status);
const STATUS_SIGNS = { running: "▸", waiting: "…", error: "!" };
const VERDICT_SIGNS = { Accepted: "✓", JudgeError: "?" };
const signOf = ({ status, verdict }) => {
  if (status in STATUS_SIGNS && verdict !== "JudgeError") return STATUS_SIGNS[status];
  return VERDICT_SIGNS[verdict] ?? (REJECTING.has(verdict) ? "✗" : "•");
};

class TaskRow {
  constructor(sample) {
    this.sample = sample;
    this.cells = sample.columns.map(([key]) => h("div", { role: "gridcell", class: `nbrun-task-${key}` }));
    this.element = h("div", { role: "row", class: "nbrun-row" }, ...this.cells);
  }

  show(place) {
    const task = this.sample.chosen[place];
    const word = wordOf(task);
    const texts = {
      ...task,
      index: number(task.index),
      outcome: `${signOf(task)} ${word}${task.isUnexpected ? ` ${UNEXPECTED}` : ""}`,
      time: task.time === null ? "" : seconds(task.time),
      attempts: number(task.attempts),
    };
    const titles = task.isUnexpected ? { ...texts, outcome: `${word}: unexpected for this group` } : texts;
    this.sample.columns.forEach(([key], i) => {
      setText(this.cells[i], texts[key]);
      setAttribute(this.cells[i], "title", titles[key]);
    });
    this.element.classList.toggle("nbrun-is-unexpected", task.isUnexpected);
    setAttribute(this.element, "aria-selected", task === this.sample.task);
  }
}
