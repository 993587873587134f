// A sample that was opened: its tasks, and of a task all that is saved. Both are asked of the kernel when they are wanted.

const TASKS_SHOWN = 8;
const ASK_AGAIN_MS = 4000;
const TASK_COLUMNS = ["Group", "Item", "Verdict", "Time", "Attempts", "Language"];

class Sample {
  constructor(store, closed) {
    this.store = store;
    this.number = -1;
    this.tasks = [];
    this.title = h("bdi", {});
    this.count = h("span", { class: "nbrun-quiet" });
    this.verdicts = h("select", { "aria-label": "Verdict of tasks", onchange: () => this.draw() });
    this.list = new List({ label: "Tasks of the sample", shown: TASKS_SHOWN, makeRow: () => new TaskRow(this), open: (place) => this.openTask(this.chosen[place]),
      columns: TASK_COLUMNS.map((name) => h("div", { role: "columnheader" }, name)) });
    this.list.element.classList.add("nbrun-tasks");
    this.entry = h("div", { class: "nbrun-entry" });
    this.element = h("section", { class: "nbrun-sample", "aria-label": "Opened sample", hidden: "" },
      h("div", { class: "nbrun-bar-of-title" }, h("b", {}, this.title), this.count, this.verdicts, button("Close", () => this.close(closed))),
      this.list.element, this.entry);
  }

  open(number) {
    this.number = number;
    this.tasks = [];
    this.task = null;
    this.verdicts.replaceChildren();
    this.entry.replaceChildren();
    setText(this.title, clip(this.store.names[number]));
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
    this.askedAtCount = this.ended();
    const asked = (this.asked = this.store.act("sample", { sample: this.number }));
    setTimeout(() => this.asked === asked && setText(this.count, "waiting: the kernel answers when the running cell ends"), ANSWER_SLOW_MS);
  }

  ended() {
    const { done, errors, work } = this.store.columns;
    return [done[this.number], errors[this.number], work[this.number]].join();
  }

  /** The store has news: those of an opened sample are asked for now and then. */
  refresh() {
    if (this.number < 0 || this.asked || this.store.lost || document.hidden) return;
    if (this.ended() !== this.askedAtCount && performance.now() - this.askedAt > ASK_AGAIN_MS) this.ask();
  }

  /** An answer came from the kernel; it may be another's. */
  hear(answer) {
    if (answer.id === this.asked) {
      this.asked = "";
      if (answer.failed) return setText(this.count, answer.text);
      this.take(answer);
    } else if (answer.id === this.askedTask) {
      this.askedTask = "";
      this.show(answer);
    }
  }

  take({ columns, names }) {
    this.tasks = Array.from(columns.index ?? [], (index, i) => ({
      index, group: names.group[columns.group[i]], verdict: names.verdict[columns.verdict[i]], language: names.language[columns.language[i]],
      status: columns.status[i], time: columns.time_ms[i] ? (columns.time_ms[i] - 1) / 1000 : null, attempts: columns.attempts[i],
    }));
    const verdicts = ["", ...new Set(this.tasks.map(wordOf))];
    const before = this.verdicts.value;
    this.verdicts.replaceChildren(...verdicts.map((name) => h("option", { value: name }, name || "All tasks")));
    this.verdicts.value = verdicts.includes(before) ? before : "";
    this.draw();
  }

  draw() {
    const wanted = this.verdicts.value;
    this.chosen = wanted ? this.tasks.filter((task) => wordOf(task) === wanted) : this.tasks;
    const { total, done, errors, work } = this.store.columns;
    const left = Math.max(0, total[this.number] - done[this.number] - errors[this.number] - work[this.number]);
    setText(this.count, `${plural(total[this.number], "task")}${left ? `, ${number(left)} not begun` : ""}`);
    this.list.element.hidden = !this.tasks.length;
    this.list.resize(this.chosen.length);
  }

  openTask(task) {
    if (!task) return;
    this.task = task;
    if (task.status === 2) return this.show({ facts: [], texts: [["", `It has been running for ${seconds(task.time)}.`]] });
    this.askedTask = this.store.act("task", { sample: this.number, group: task.group, index: task.index });
    this.entry.replaceChildren(h("div", { class: "nbrun-quiet" }, "reading…"));
  }

  show({ facts = [], texts = [], text, failed }) {
    if (failed) texts = [["", text]];
    const title = this.task ? `${this.task.group} ${this.task.index}` : "";
    this.entry.replaceChildren(
      h("div", { class: "nbrun-bar-of-title" }, h("b", {}, title), h("span", { class: "nbrun-quiet nbrun-facts" }, facts.map(([name, value]) => `${name}: ${value}`).join(" · "))),
      ...texts.flatMap(([heading, body]) => [h("div", { class: "nbrun-heading" }, heading), h("pre", { tabindex: "0", "aria-label": heading || "Task" }, body)]));
    this.entry.scrollIntoView({ block: "nearest" });
  }
}

const wordOf = (task) => (task.status === 2 ? "running" : task.verdict || (task.status === 1 ? "error" : "done"));
const signOf = (task) => (task.status === 2 ? "▸" : task.verdict === "JudgeError" ? "?" : task.status === 1 ? "!" : task.verdict === "Accepted" ? "✓" : task.verdict ? "✗" : "•");

class TaskRow {
  constructor(sample) {
    this.sample = sample;
    this.cells = TASK_COLUMNS.map(() => h("div", { role: "cell" }));
    this.element = h("div", { role: "row", class: "nbrun-row" }, ...this.cells);
  }

  show(place) {
    const task = this.sample.chosen[place];
    const texts = [task.group, number(task.index), `${signOf(task)} ${wordOf(task)}`, task.time === null ? "" : seconds(task.time), number(task.attempts), task.language];
    texts.forEach((text, i) => setText(this.cells[i], text));
    setAttribute(this.element, "aria-selected", task === this.sample.task);
  }
}
