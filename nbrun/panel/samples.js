// The table of all samples. Order and filters are computed here, from the store's columns. The kernel finds samples
// that were not read yet, if it knows their ids.

const SAMPLES_SHOWN = 10;
const ORDER_MS = 500;
const FIND_MS = 250; // from the last key until unread samples are asked for
const STATES_OF_SAMPLES = {
  all: "All states",
  work: "At work",
  retry: "Waiting for a retry",
  unexpected: "Unexpected",
  errors: "With errors",
  begun: "Begun",
  waiting: "Not begun",
  finished: "Finished",
};
const SORTS = { id: "Sample", progress: "Progress", tasks: "Tasks", errors: "Outcomes" };

class Samples {
  constructor(store, open) {
    this.store = store;
    this.text = "";
    this.state = "all";
    this.verdict = "";
    this.sort = ["work", 1];
    this.order = [];
    this.unread = []; // ids that match and were not read yet; they come after those in `order`
    this.moreUnread = 0; // how many more match
    this.opened = -1;
    this.lower = []; // ids in lower case, by the samples' numbers
    this.byId = []; // see placesById; empty until it is needed
    this.orderedAt = -Infinity;
    this.build(open);
  }

  build(open) {
    this.heads = Object.entries(SORTS).map(([key, name]) =>
      columnHeader(
        button(name, () => this.sortBy(key), { class: "nbrun-sort", title: `Sort by ${name.toLowerCase()}` }),
        { "aria-sort": "none" },
      ),
    );
    this.list = new List({
      label: "Samples",
      shown: SAMPLES_SHOWN,
      columns: this.heads,
      makeRow: () => new SampleRow(this),
      open: (place) => place < this.order.length && open(this.order[place]),
    });
    this.box = h("input", {
      type: "search",
      role: "searchbox",
      placeholder: "Find a sample",
      "aria-label": "Find a sample by its id",
      "data-lm-suppress-shortcuts": "true",
      oninput: () => this.search(this.box.value),
      onkeydown: (event) => event.stopPropagation(),
    });
    const chooseState = () => this.choose({ state: this.states.value });
    this.states = select("State of samples", chooseState, Object.entries(STATES_OF_SAMPLES));
    const chooseVerdict = () => this.choose({ verdict: this.verdicts.value });
    this.verdicts = select("Verdict in samples", chooseVerdict, [["", "All verdicts"]]);
    this.note = h("span", { class: "nbrun-quiet nbrun-found", role: "status" });
    this.element = div(
      "nbrun-samples",
      div("nbrun-filters", this.box, this.states, this.verdicts, this.note),
      this.list.element,
    );
    // Rows must not move away from under the pointer.
    this.list.element.addEventListener("pointerenter", () => (this.isHeld = true));
    this.list.element.addEventListener("pointerleave", () => (this.isHeld = false));
  }

  search(text) {
    this.text = text.trim().toLowerCase();
    this.unread = [];
    this.moreUnread = 0;
    this.list.toTop();
    this.arrange();
    clearTimeout(this.finding);
    this.asked = "";
    if (this.text && this.unreadCount)
      this.finding = setTimeout(() => (this.asked = this.store.act("find", { text: this.text })), FIND_MS);
  }

  /** How many samples were not read yet; null if unknown. */
  get unreadCount() {
    const { samples_total: total } = this.store.head;
    return total == null ? null : Math.max(0, total - this.store.names.length);
  }

  /** Takes an answer of the kernel, if it is to a question of this object. */
  onAnswer({ id, ids, more, failed }) {
    if (id !== this.asked || failed) return;
    this.unread = ids ?? [];
    this.moreUnread = more ?? 0;
    this.arrange();
  }

  choose(what) {
    Object.assign(this, what);
    this.states.value = this.state;
    this.list.toTop();
    this.arrange();
  }

  /** Sorts up, then down, then by what is at work again. */
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

  /** Shows new values at once, a new order now and then. */
  refresh() {
    const grew = this.lower.length !== this.store.names.length;
    const due = performance.now() - this.orderedAt > ORDER_MS;
    if (grew || (due && !this.isHeld)) return this.arrange();
    this.list.draw();
    if (!due && !this.late) this.late = setTimeout(() => (this.late = 0) || this.refresh(), ORDER_MS);
  }

  arrange() {
    const { store } = this;
    this.orderedAt = performance.now();
    if (this.lower.length > store.names.length) this.lower = [];
    if (this.lower.length < store.names.length) {
      for (let i = this.lower.length; i < store.names.length; i++) this.lower.push(store.names[i].toLowerCase());
      this.byId = [];
      const read = new Set(this.unread.length ? store.names : []);
      this.unread = this.unread.filter((id) => !read.has(id)); // those have rows of their own now
    }
    this.drawVerdicts();
    this.order = this.sorted(this.chosen());
    const unread = this.isFiltered ? 0 : this.unread.length;
    this.list.element.hidden = !store.names.length && !unread;
    this.drawNote();
    // Without verdicts the column of outcomes would only repeat the counts.
    this.isJudged = store.head.verdicts.length > 0;
    this.list.element.classList.toggle("nbrun-unjudged", !this.isJudged);
    this.list.resize(this.order.length + unread);
  }

  drawNote() {
    setText(this.note, this.words(this.store.names.length));
  }

  get isFiltered() {
    return this.verdict !== "" || this.state !== "all";
  }

  /** The numbers of the samples that the text and both filters leave. */
  chosen() {
    const { seen } = this.store.columns;
    const bit = this.verdict === "" ? 0 : 1 << Math.min(31, Number(this.verdict));
    const matches = (i) =>
      (!this.text || this.lower[i].includes(this.text)) &&
      (!bit || seen[i] & bit) &&
      (this.state === "all" || this.isInState(i));
    const found = [];
    for (let i = 0; i < this.store.names.length; i++) if (matches(i)) found.push(i);
    return found;
  }

  /** Whether a sample is in the state that is chosen in the filter. */
  isInState(i) {
    const { total, done, errors, running, waiting, unexpected } = this.store.columns;
    const ended = done[i] + errors[i];
    return {
      work: running[i],
      retry: waiting[i],
      waiting: !ended && !running[i] && !waiting[i] && total[i],
      begun: (ended || running[i]) && ended < total[i],
      finished: done[i] >= total[i],
      errors: errors[i],
      unexpected: unexpected[i],
    }[this.state];
  }

  sorted(chosen) {
    const { total, done, errors, running, judge_errors: judge, unexpected } = this.store.columns;
    const [key, direction] = this.sort;
    if (key === "work") {
      // at work, with errors, begun, waiting, finished; each by its number
      const ranks = [[], [], [], [], []];
      for (const i of chosen) ranks[running[i] ? 0 : errors[i] ? 1 : total[i] <= done[i] ? 4 : done[i] ? 2 : 3].push(i);
      return ranks.flat();
    }
    if (key === "id") {
      if (!this.byId.length) this.byId = this.placesById();
      return chosen.sort((a, b) => direction * (this.byId[a] - this.byId[b]));
    }
    const values = {
      progress: (i) => (done[i] + errors[i]) / total[i] || 0,
      tasks: (i) => total[i],
      errors: (i) => errors[i] + judge[i] + unexpected[i],
    }[key];
    return chosen.sort((a, b) => direction * (values(a) - values(b)) || a - b);
  }

  /** Each sample's place in the order of ids, in which numbers count as numbers. */
  placesById() {
    const { compare } = new Intl.Collator("en", { numeric: true });
    const order = Array.from(this.lower, (_, i) => i).sort((a, b) => compare(this.lower[a], this.lower[b]));
    const places = new Uint32Array(order.length);
    order.forEach((i, place) => (places[i] = place));
    return places;
  }

  words(size) {
    const unread = this.unreadCount;
    const later = unread === null ? ", more may come" : unread ? `, ${number(unread)} not read yet` : "";
    if (!size && !this.unread.length) return `No samples read yet${unread ? ` of ${number(unread)}` : ""}.`;
    const found = this.unread.length + this.moreUnread;
    if (this.text || this.isFiltered) {
      const more = found && !this.isFiltered ? `, ${number(found)} of ${number(unread ?? found)} not read yet` : later;
      return `${number(this.order.length)} of ${plural(size, "sample")} match${more}`;
    }
    const isByWork = this.sort[0] === "work" && !ENDED.includes(this.store.head.state);
    return `${plural(size, "sample")}${later || (isByWork ? ", those at work first" : "")}`;
  }

  drawVerdicts() {
    const names = this.store.head.verdicts.slice(0, 32).map(([name]) => name);
    const shown = this.verdicts.options;
    for (let i = shown.length - 1; i < names.length; i++) this.verdicts.append(h("option", { value: i }, ""));
    names.forEach((name, i) => setText(shown[i + 1], i === 31 ? "Other verdicts" : clip(name, 40)));
    this.verdicts.hidden = !names.length;
  }
}

class SampleRow {
  constructor(samples) {
    this.samples = samples;
    this.id = new Id({ role: "gridcell", class: "nbrun-name" });
    this.bar = new Bar({});
    this.counts = h("div", { role: "gridcell", class: "nbrun-counts" });
    this.marks = h("div", { role: "gridcell", class: "nbrun-marks" });
    const barCell = h("div", { role: "gridcell", class: "nbrun-bar-cell" }, this.bar.element);
    this.element = h("div", { role: "row", class: "nbrun-row" }, this.id.element, barCell, this.counts, this.marks);
  }

  show(place) {
    const { store, order, opened, unread, isJudged, list } = this.samples;
    const isRead = place < order.length;
    const sample = isRead ? order[place] : -1;
    const id = isRead ? store.names[sample] : (unread[place - order.length] ?? "");
    const counts = store.countsOf(sample);
    const { total, done, errors, running, waiting, unexpected } = counts;
    const ended = done + errors;
    const parts = store.segmentsOf(counts);
    const isJudgedHere = parts.accepted || parts.rejected;
    const marks = SIGNS.filter(([name]) => parts[name] && (name !== "done" || isJudgedHere)).map(
      ([name, mark, word]) => [mark, parts[name], word],
    );
    if (unexpected) marks.unshift([UNEXPECTED, unexpected, "unexpected"]);
    const words = marks.map(([, n, word]) => `${word}: ${number(n)}`).join(", ");
    const hasRoom = !isJudged && list.rowPx === ROW_PX; // elsewhere the bar or another column shows it
    const said = [
      isRead ? `${number(done)} of ${number(total)}` : "not read yet",
      errors && plural(errors, "error"),
      hasRoom && running && `${number(running)} running`,
      hasRoom && waiting && `${number(waiting)} waiting`,
    ];
    const value = isRead ? `${number(ended)} of ${number(total)}` : "not read yet";
    setAttribute(this.element, "data-sample-id", id);
    setAttribute(this.element, "aria-selected", isRead && sample === opened);
    this.element.classList.toggle("nbrun-unread", !isRead);
    this.element.classList.toggle("nbrun-at-work", running > 0);
    this.id.show(id);
    setAttribute(this.bar.element, "aria-label", clip(id));
    this.bar.draw(parts, total, unexpected, ended, words ? `${value}; ${words}` : value);
    setText(this.counts, said.filter(Boolean).join(", "));
    this.counts.classList.toggle("nbrun-with-errors", errors > 0);
    setText(this.marks, marks.map(([mark, n]) => `${mark} ${number(n)}`).join("  "));
    setAttribute(this.marks, "title", words);
  }
}
