// The table of samples: as many rows in the page as are seen, however many samples there are. Order and filter are
// worked out here, from the store's columns.

const ROW_PX = 26;
const ROWS_SHOWN = 10;

/** An element with attributes and children; text only ever becomes text. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const setAttribute = (element, name, value) => {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
};

const number = (n) => n.toLocaleString("en-US");

/** A bar in segments as one background: no element a segment. parts: [[class, count], ...] */
function paint(element, parts, total) {
  let from = 0;
  const stops = [];
  for (const [name, count] of parts) {
    if (!count) continue;
    const to = from + (100 * count) / Math.max(1, total);
    stops.push(`var(--nbrun-${name}) ${from.toFixed(2)}% ${to.toFixed(2)}%`);
    from = to;
  }
  stops.push(`transparent ${from.toFixed(2)}%`);
  const image = `linear-gradient(90deg, ${stops.join(", ")})`;
  if (element.nbrunImage !== image) element.style.backgroundImage = element.nbrunImage = image;
}

class Table {
  constructor(store) {
    this.store = store;
    this.filter = "";
    this.order = new Uint32Array(0);
    this.rows = [];
    this.spacer = h("div", { class: "nbrun-spacer", role: "presentation" });
    this.scroller = h("div", { class: "nbrun-scroller", role: "rowgroup", tabindex: "0", "aria-label": "Samples" }, this.spacer);
    this.scroller.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
    this.note = h("div", { class: "nbrun-quiet nbrun-found", role: "status" });
    this.table = h("div", { role: "table", "aria-label": "Samples", class: "nbrun-table" }, this.scroller);
    this.element = h("div", {}, this.table, this.note);
  }

  search(text) {
    this.filter = text.trim().toLowerCase();
    this.scroller.scrollTop = 0;
    this.refresh();
  }

  /** Works out which samples stand where: at work, with errors, begun, waiting, finished; each by its number. */
  refresh() {
    const { names, size } = this.store;
    const { total, done, errors, work } = this.store.columns;
    const ranks = [[], [], [], [], []];
    for (let i = 0; i < size; i++) {
      if (this.filter && !names[i].toLowerCase().includes(this.filter)) continue;
      const left = total[i] > done[i] + errors[i];
      ranks[work[i] ? 0 : errors[i] ? 1 : !left ? 4 : done[i] ? 2 : 3].push(i);
    }
    this.order = ranks.flat();
    this.spacer.style.height = `${this.order.length * ROW_PX}px`;
    this.scroller.style.height = `${Math.min(ROWS_SHOWN, Math.max(1, this.order.length)) * ROW_PX}px`;
    this.table.hidden = !this.order.length;
    setAttribute(this.table, "aria-rowcount", this.order.length);
    setText(this.note, this.words(size));
    this.draw();
  }

  words(size) {
    if (!size) return "No samples read yet.";
    if (!this.filter) return `${number(size)} sample${size === 1 ? "" : "s"}, those at work first`;
    return `${number(this.order.length)} of ${number(size)} samples match`;
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW_PX) - 1);
    const wanted = Math.max(0, Math.min(this.order.length - first, ROWS_SHOWN + 3));
    while (this.rows.length < wanted) {
      this.rows.push(new Row());
      this.spacer.append(this.rows.at(-1).element);
    }
    while (this.rows.length > wanted) this.rows.pop().element.remove();
    this.rows.forEach((row, i) => row.show(this.store, this.order[first + i], first + i));
  }
}

class Row {
  constructor() {
    this.id = h("bdi", {});
    this.bar = h("div", { class: "nbrun-bar", role: "progressbar", "aria-valuemin": "0" });
    this.counts = h("div", { role: "cell", class: "nbrun-counts" });
    this.marks = h("div", { role: "cell", class: "nbrun-marks" });
    this.element = h("div", { role: "row", class: "nbrun-row" },
      h("div", { role: "cell", class: "nbrun-id" }, this.id), h("div", { role: "cell" }, this.bar), this.counts, this.marks);
  }

  show(store, sample, place) {
    const { total, done, accepted, rejected, errors, work } = store.columns;
    const id = store.names[sample];
    const ended = done[sample] + errors[sample];
    const plain = Math.max(0, done[sample] - accepted[sample] - rejected[sample]);
    const marks = [["accepted", "✓"], ["rejected", "✗"], ["errors", "!"], ["work", "▸"]];
    const said = marks.filter(([name]) => store.columns[name][sample]);
    setAttribute(this.element, "data-sample-id", id);
    setAttribute(this.element, "aria-rowindex", place + 1);
    this.element.style.transform = `translateY(${place * ROW_PX}px)`;
    this.element.classList.toggle("nbrun-at-work", work[sample] > 0);
    setText(this.id, id.slice(0, 300));
    setAttribute(this.id, "title", id.slice(0, 300));
    setAttribute(this.bar, "aria-label", id.slice(0, 300));
    setAttribute(this.bar, "aria-valuenow", ended);
    setAttribute(this.bar, "aria-valuemax", total[sample]);
    paint(this.bar, [["accepted", accepted[sample]], ["rejected", rejected[sample]], ["done", plain],
      ["errors", errors[sample]], ["running", work[sample]]], total[sample]);
    setText(this.counts, `${number(ended)} / ${number(total[sample])}`);
    setText(this.marks, said.map(([name, mark]) => `${mark} ${number(store.columns[name][sample])}`).join("  "));
    setAttribute(this.marks, "title", said.map(([name]) => `${name === "work" ? "running" : name}: ${store.columns[name][sample]}`).join(", "));
  }
}
