// The table of all samples. Order and filters are worked out here, from the store's columns.

const SAMPLES_SHOWN = 10;
const ORDER_MS = 500;
const STATES_OF_SAMPLES = { all: "All states", work: "At work", waiting: "Waiting", begun: "Begun", finished: "Finished", errors: "With errors" };
const SORTS = { id: "Sample", progress: "Progress", tasks: "Tasks", errors: "Outcomes" };

class Samples {
  constructor(store, open) {
    this.store = store;
    this.text = "";
    this.state = "all";
    this.verdict = "";
    this.sort = ["work", 1];
    this.order = [];
    this.opened = -1;
    this.lower = [];
    this.byId = [];
    this.orderedAt = -Infinity;
    this.heads = Object.entries(SORTS).map(([key, name]) =>
      h("div", { role: "columnheader", "aria-sort": "none" }, button(name, () => this.sortBy(key), { class: "nbrun-sort", title: `Sort by ${name.toLowerCase()}` })));
    this.list = new List({ label: "Samples", shown: SAMPLES_SHOWN, columns: this.heads,
      makeRow: () => new SampleRow(this), open: (place) => open(this.order[place]) });
    this.box = h("input", { type: "search", role: "searchbox", placeholder: "Find a sample", "aria-label": "Find a sample by its id", "data-lm-suppress-shortcuts": "true",
      oninput: () => this.search(this.box.value), onkeydown: (event) => event.stopPropagation() });
    const options = Object.entries(STATES_OF_SAMPLES).map(([value, name]) => h("option", { value }, name));
    this.states = h("select", { "aria-label": "State of samples", onchange: () => this.choose({ state: this.states.value }) }, ...options);
    this.verdicts = h("select", { "aria-label": "Verdict in samples", onchange: () => this.choose({ verdict: this.verdicts.value }) },
      h("option", { value: "" }, "All verdicts"));
    this.note = h("span", { class: "nbrun-quiet nbrun-found", role: "status" });
    this.element = h("div", { class: "nbrun-samples" },
      h("div", { class: "nbrun-filters" }, this.box, this.states, this.verdicts, this.note), this.list.element);
    // While somebody points at a row, rows must not move away from under the pointer.
    this.list.scroller.addEventListener("pointerenter", () => (this.isHeld = true));
    this.list.scroller.addEventListener("pointerleave", () => (this.isHeld = false));
  }

  search(text) {
    this.text = text.trim().toLowerCase();
    this.list.toTop();
    this.arrange();
  }

  choose(what) {
    Object.assign(this, what);
    this.list.toTop();
    this.arrange();
  }

  /** Up, down, and back to those at work first. */
  sortBy(key) {
    const [now, direction] = this.sort;
    const first = key === "id" ? 1 : -1;
    this.sort = now !== key ? [key, first] : direction === first ? [key, -first] : ["work", 1];
    this.heads.forEach((head, i) => {
      const mine = Object.keys(SORTS)[i] === this.sort[0];
      setAttribute(head, "aria-sort", !mine ? "none" : this.sort[1] > 0 ? "ascending" : "descending");
    });
    this.choose({});
  }

  /** The store has news: values at once, the order now and then. */
  refresh() {
    const grew = this.lower.length !== this.store.size;
    const due = performance.now() - this.orderedAt > ORDER_MS;
    if (grew || (due && !this.isHeld)) this.arrange();
    else {
      this.list.draw();
      if (due || this.late) return;
      this.late = setTimeout(() => (this.late = 0) || this.refresh(), ORDER_MS);
    }
  }

  arrange() {
    const { store } = this;
    this.orderedAt = performance.now();
    if (this.lower.length > store.size) this.lower = [];
    if (this.lower.length < store.size) {
      for (let i = this.lower.length; i < store.size; i++) this.lower.push(store.names[i].toLowerCase());
      this.byId = [];
    }
    this.drawVerdicts();
    this.order = this.sorted(this.chosen());
    this.list.element.hidden = !store.size;
    setText(this.note, this.words(store.size));
    this.list.resize(this.order.length);
  }

  chosen() {
    const { size, columns: { total, done, errors, work, seen } } = this.store;
    const bit = this.verdict === "" ? 0 : 1 << Math.min(31, Number(this.verdict));
    const out = [];
    for (let i = 0; i < size; i++) {
      if (this.text && !this.lower[i].includes(this.text)) continue;
      if (bit && !(seen[i] & bit)) continue;
      if (this.state !== "all") {
        const ended = done[i] + errors[i];
        const states = { work: work[i], waiting: !ended && !work[i] && total[i], begun: (ended || work[i]) && ended < total[i],
          finished: done[i] >= total[i], errors: errors[i] };
        if (!states[this.state]) continue;
      }
      out.push(i);
    }
    return out;
  }

  sorted(chosen) {
    const { total, done, errors, work, judge_errors: judge } = this.store.columns;
    const [key, direction] = this.sort;
    if (key === "work") { // at work, with errors, begun, waiting, finished; each by its number
      const ranks = [[], [], [], [], []];
      for (const i of chosen) ranks[work[i] ? 0 : errors[i] ? 1 : total[i] <= done[i] ? 4 : done[i] ? 2 : 3].push(i);
      return ranks.flat();
    }
    if (key === "id") {
      if (!this.byId.length) {
        const places = Array.from(this.lower, (_, i) => i);
        const compare = new Intl.Collator("en", { numeric: true }).compare;
        places.sort((a, b) => compare(this.lower[a], this.lower[b]));
        this.byId = new Uint32Array(places.length);
        places.forEach((i, place) => (this.byId[i] = place));
      }
      return chosen.sort((a, b) => direction * (this.byId[a] - this.byId[b]));
    }
    const values = { progress: (i) => (done[i] + errors[i]) / total[i] || 0, tasks: (i) => total[i], errors: (i) => errors[i] + judge[i] }[key];
    return chosen.sort((a, b) => direction * (values(a) - values(b)) || a - b);
  }

  words(size) {
    if (!size) return "No samples read yet.";
    if (this.text || this.verdict !== "" || this.state !== "all") return `${number(this.order.length)} of ${plural(size, "sample")} match`;
    return `${plural(size, "sample")}${this.sort[0] === "work" ? ", those at work first" : ""}`;
  }

  drawVerdicts() {
    const names = (this.store.head.verdicts ?? []).slice(0, 32).map(([name]) => name);
    const shown = this.verdicts.options;
    for (let i = shown.length - 1; i < names.length; i++) this.verdicts.append(h("option", { value: i }, ""));
    names.forEach((name, i) => setText(shown[i + 1], i === 31 ? "Other verdicts" : clip(name, 40)));
    this.verdicts.hidden = !names.length;
  }
}

class SampleRow {
  constructor(samples) {
    this.samples = samples;
    this.id = h("bdi", {});
    this.bar = h("div", { class: "nbrun-bar", role: "progressbar", "aria-valuemin": "0" });
    this.counts = h("div", { role: "cell", class: "nbrun-counts" });
    this.marks = h("div", { role: "cell", class: "nbrun-marks" });
    this.element = h("div", { role: "row", class: "nbrun-row" },
      h("div", { role: "cell", class: "nbrun-id" }, this.id), h("div", { role: "cell" }, this.bar), this.counts, this.marks);
  }

  show(place) {
    const { store, order, opened } = this.samples;
    const sample = order[place];
    const { total, done, errors, work } = store.columns;
    const id = store.names[sample];
    const ended = done[sample] + errors[sample];
    const parts = store.segmentsOf(sample);
    const said = SIGNS.filter(([name]) => parts[name] && (name !== "done" || parts.accepted || parts.rejected));
    setAttribute(this.element, "data-sample-id", id);
    setAttribute(this.element, "aria-selected", sample === opened);
    this.element.classList.toggle("nbrun-at-work", work[sample] > 0);
    if (this.shown !== id) {
      this.shown = id;
      setText(this.id, clip(id));
      setAttribute(this.id, "title", clip(id));
      setAttribute(this.bar, "aria-label", clip(id));
    }
    setAttribute(this.bar, "aria-valuenow", ended);
    setAttribute(this.bar, "aria-valuemax", total[sample]);
    paint(this.bar, parts, total[sample]);
    setText(this.counts, `${number(ended)} / ${number(total[sample])}`);
    setText(this.marks, said.map(([name, mark]) => `${mark} ${number(parts[name])}`).join("  "));
    const words = said.map(([name, , word]) => `${word}: ${number(parts[name])}`).join(", ");
    setAttribute(this.marks, "title", words);
    setAttribute(this.bar, "aria-valuetext", `${number(ended)} of ${number(total[sample])}${words ? `; ${words}` : ""}`);
  }
}
