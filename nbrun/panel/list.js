// A table of which as many rows are in the page as are seen, however many it has. Rows can be reached by keys.

const ROW_PX = 26;
const HEADER_PX = 26;

class List {
  /**
   * makeRow() gives {element, show(place)}; open(place) is called for a click or Enter. columns: header cells.
   */
  constructor({ label, shown, makeRow, open, columns }) {
    this.shown = shown;
    this.makeRow = makeRow;
    this.open = open;
    this.count = 0;
    this.active = -1;
    this.rows = [];
    this.id = `nbrun-${Math.random().toString(36).slice(2)}`;
    this.spacer = h("div", { class: "nbrun-spacer", role: "presentation" });
    this.header = h("div", { role: "row", class: "nbrun-row nbrun-header" }, ...columns); // it stays above the rows
    this.scroller = h("div", { class: "nbrun-scroller", role: "rowgroup", tabindex: "0", "aria-label": label }, this.header, this.spacer);
    this.scroller.nbrunList = this;
    this.scroller.addEventListener("scroll", () => (this.frame ||= requestAnimationFrame(() => this.draw())), { passive: true });
    this.spacer.addEventListener("click", (event) => this.click(event));
    this.element = h("div", { role: "table", "aria-label": label, class: "nbrun-table" }, this.scroller);
  }

  /** So many rows there are. */
  resize(count) {
    this.count = count;
    if (this.active >= count) this.active = -1;
    this.spacer.style.height = `${count * ROW_PX}px`;
    this.scroller.style.height = `${Math.min(this.shown, Math.max(1, count)) * ROW_PX + HEADER_PX}px`;
    setAttribute(this.element, "aria-rowcount", count);
    this.draw();
  }

  draw() {
    this.frame = 0;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW_PX) - 1);
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
      row.element.style.transform = `translateY(${place * ROW_PX}px)`;
      row.show(place);
    });
  }

  toTop() {
    this.scroller.scrollTop = 0;
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
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab" || event.key === "Escape") return;
    event.stopImmediatePropagation();
    const page = this.shown - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      const to = this.active < 0 && steps[event.key] > 0 && Number.isFinite(steps[event.key]) ? 0 : this.active + steps[event.key];
      this.active = Math.max(0, Math.min(this.count - 1, to));
      this.reveal(this.active);
    } else if (event.key === "Enter" && this.active >= 0) this.open(this.active);
    else return;
    event.preventDefault();
    this.draw();
  }

  reveal(place) {
    const top = place * ROW_PX;
    const { scrollTop } = this.scroller;
    const clientHeight = this.scroller.clientHeight - HEADER_PX;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + ROW_PX > scrollTop + clientHeight) this.scroller.scrollTop = top + ROW_PX - clientHeight;
    setAttribute(this.scroller, "aria-activedescendant", `${this.id}-${place}`);
  }
}

// The notebook listens at the document, before the event comes to the list: so this listens before that.
window.addEventListener("keydown", (event) => event.target.nbrunList?.key(event), true);
