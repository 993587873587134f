// A table that keeps only its visible rows in the page. Its rows can be reached by keyboard.

const ROW_PX = 26;
const NARROW_ROW_PX = 46; // two lines a row
const HEADER_PX = 26;

/** Whether a key means something to the notebook or the browser on every element. */
const isCommand = ({ ctrlKey, metaKey, altKey, key }) =>
  ctrlKey || metaKey || altKey || ["Tab", "Escape"].includes(key);
const columnHeader = (content, attributes = {}) => h("div", { role: "columnheader", ...attributes }, content);

class List {
  /**
   * makeRow() gives {element, show(place)}; open(place) is called for a click or Enter. columns: header cells.
   */
  constructor({ label, shown, makeRow, open, columns }) {
    this.shown = shown;
    this.makeRow = makeRow;
    this.open = open;
    this.count = 0;
    this.rowPx = ROW_PX;
    this.active = -1;
    this.rows = [];
    this.id = `nbrun-${Math.random().toString(36).slice(2)}`;
    this.spacer = h("div", { class: "nbrun-spacer", role: "rowgroup" });
    this.header = h("div", { role: "row", class: "nbrun-row nbrun-header" }, ...columns);
    this.head = h("div", { role: "rowgroup", class: "nbrun-head" }, this.header); // it stays above the rows
    // A grid, not a table: only a grid may have an active row.
    this.element = h(
      "div",
      { class: "nbrun-table nbrun-scroller", role: "grid", tabindex: "0", "aria-label": label },
      this.head,
      this.spacer,
    );
    this.element.nbrunList = this;
    this.element.addEventListener("scroll", () => (this.frame ||= requestAnimationFrame(() => this.draw())), {
      passive: true,
    });
    this.spacer.addEventListener("click", (event) => this.click(event));
  }

  /** Sets the number of rows. */
  resize(count) {
    this.count = count;
    if (this.active >= count) this.active = -1;
    this.spacer.hidden = !count; // a row group without rows is an error to assistive technology
    this.spacer.style.height = `${count * this.rowPx}px`;
    this.element.style.height = `${Math.min(this.shown, Math.max(1, count)) * this.rowPx + HEADER_PX}px`;
    setAttribute(this.element, "aria-rowcount", count);
    this.draw();
  }

  /** Makes all rows again, because the columns have changed. */
  rebuild() {
    for (const row of this.rows.splice(0)) row.element.remove();
  }

  /** In a narrow panel a row has two lines. */
  setNarrow(isNarrow) {
    if (isNarrow === (this.rowPx === NARROW_ROW_PX)) return;
    this.rowPx = isNarrow ? NARROW_ROW_PX : ROW_PX;
    this.element.classList.toggle("nbrun-two-lines", isNarrow);
    this.resize(this.count);
  }

  draw() {
    this.frame = 0;
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.rowPx) - 1);
    const wanted = Math.max(0, Math.min(this.count - first, this.shown + 3));
    while (this.rows.length < wanted) {
      this.rows.push(this.makeRow());
      this.spacer.append(this.rows.at(-1).element);
    }
    while (this.rows.length > wanted) this.rows.pop().element.remove();
    this.rows.forEach((row, i) => {
      const place = first + i;
      row.element.nbrunPlace = place;
      setAttribute(row.element, "aria-rowindex", place + 1);
      setAttribute(row.element, "id", `${this.id}-${place}`);
      row.element.classList.toggle("nbrun-active", place === this.active);
      row.element.style.transform = `translateY(${place * this.rowPx}px)`;
      row.show(place);
    });
    const isThere = this.active >= first && this.active < first + wanted;
    if (isThere) setAttribute(this.element, "aria-activedescendant", `${this.id}-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  toTop() {
    this.element.scrollTop = 0;
    this.active = -1;
  }

  click(event) {
    const row = event.target.closest(".nbrun-row");
    if (!row || row.nbrunPlace >= this.count) return;
    this.active = row.nbrunPlace;
    this.open(this.active);
    this.draw();
  }

  /** Arrow keys move, Enter opens; other plain keys do nothing, where the notebook would delete cells at "d d". */
  key(event) {
    if (isCommand(event)) return;
    event.stopImmediatePropagation();
    const page = this.shown - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step && this.count) {
      const isFirst = this.active < 0 && step > 0 && step !== Infinity;
      this.active = Math.max(0, Math.min(this.count - 1, isFirst ? 0 : this.active + step));
      this.reveal(this.active);
    } else if (event.key === "Enter" && this.active >= 0) this.open(this.active);
    else return;
    event.preventDefault();
    this.draw();
  }

  reveal(place) {
    const top = place * this.rowPx;
    const { scrollTop } = this.element;
    const height = this.element.clientHeight - HEADER_PX;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.rowPx > scrollTop + height) this.element.scrollTop = top + this.rowPx - height;
  }
}

/** Keeps plain keys on the panel from the notebook, where "d d" deletes cells; Tab, Escape and Shift+Enter reach it. */
function keepKeys(event) {
  if (event.target.nbrunList) return event.target.nbrunList.key(event);
  const isForNotebook = isCommand(event) || (event.shiftKey && event.key === "Enter");
  if (!isForNotebook && event.target.closest?.(".nbrun-panel")) event.stopImmediatePropagation();
}

// The notebook listens at the document, before the event comes to the panel: so this listens before that.
window.addEventListener("keydown", keepKeys, true);
