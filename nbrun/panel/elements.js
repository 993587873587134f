// Small things that all parts of the page are made of. Text only ever becomes text.

/** When a view says that it waits for the kernel. */
const ANSWER_SLOW_MS = 1500;

/** An element with attributes and children. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const div = (className, ...children) => h("div", { class: className }, ...children);
const span = (className, ...children) => h("span", { class: className }, ...children);

/** A list of choices. options: [value, text]; `act()` is called when another one is chosen. */
const select = (label, act, options = []) =>
  h("select", { "aria-label": label, onchange: act }, ...options.map(([value, text]) => h("option", { value }, text)));

const button = (name, act, more = {}) =>
  h("button", { type: "button", ...more, onclick: (event) => act(event.currentTarget) }, name);

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const setAttribute = (element, name, value) => {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
};

const number = new Intl.NumberFormat("en-US").format;
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;
const clip = (text, characters = 300) => (text.length > characters ? `${text.slice(0, characters - 1)}…` : text);

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];
/** A duration in its two largest units. */
const duration = (seconds) => {
  let rest = Math.round(seconds);
  const parts = UNITS.map(([size, unit]) => {
    const n = Math.floor(rest / size);
    rest -= n * size;
    return n && `${n} ${unit}`;
  });
  const first = parts.findIndex((part) => part);
  return first < 0
    ? "0 s"
    : parts
        .slice(first, first + 2)
        .filter(Boolean)
        .join(" ");
};

/** A time as it was measured, to three digits like `time_text` in Python; times in messages are whole milliseconds. */
function seconds(s) {
  if (s >= 60) return duration(s);
  if (s >= 1) return `${Number(s.toPrecision(3))} s`;
  return s >= 0.0005 ? `${Math.round(1000 * s)} ms` : "< 1 ms";
}

/** A text cut in its middle: ids differ mostly at their ends. */
const cutMiddle = (text, characters) => {
  if (text.length <= characters) return text;
  const tail = Math.floor((characters - 1) / 2);
  return `${text.slice(0, characters - 1 - tail)}…${text.slice(-tail)}`;
};

/** Where there is too little room, the start is cut and these last characters stay. */
const TAIL = 12;
// Scripts from right to left aren't split.
const isSplit = (text) => text.length > 2 * TAIL && !/[\u0590-\u08ff\ufb1d-\ufefc]/.test(text);

/** An element that shows an id: cut in the middle where it is longer than the room. */
class Id {
  constructor(attributes = {}) {
    this.head = span("nbrun-id-head");
    this.tail = span("nbrun-id-tail");
    this.element = h("bdi", { ...attributes, class: `nbrun-id ${attributes.class ?? ""}` }, this.head, this.tail);
  }

  show(id) {
    if (this.shown === id) return;
    this.shown = id;
    const text = cutMiddle(id, 300);
    const at = isSplit(text) ? text.length - TAIL : text.length;
    setText(this.head, text.slice(0, at));
    setText(this.tail, text.slice(at));
    setAttribute(this.element, "title", text);
  }
}

/** The signs beside the colours: [key, sign, word]. */
const SIGNS = [
  ["accepted", "✓", "accepted"],
  ["rejected", "✗", "rejected"],
  ["done", "•", "done"],
  ["judge", "?", "judge errors"],
  ["errors", "!", "errors"],
  ["running", "▸", "running"],
  ["waiting", "…", "waiting"],
];
const UNEXPECTED = "≠";
/** Verdicts that reject, as verdicts.py lists them. All others but Accepted and JudgeError are a judge's own: neutral. */
const REJECTING = new Set([
  "WrongAnswer",
  "TimeLimitExceeded",
  "MemoryLimitExceeded",
  "OutputLimitExceeded",
  "RuntimeError",
  "CompileError",
  "Rejected",
]);

/** No part of a bar is narrower than this share of it, or one error in 10,000 tasks could not be seen. */
const LEAST_PERCENT = 0.6;

/** A bar of tasks. Its segments are one background, without elements. */
class Bar {
  constructor(attributes) {
    const all = {
      role: "progressbar",
      "aria-valuemin": "0",
      ...attributes,
      class: `nbrun-bar ${attributes.class ?? ""}`,
    };
    this.element = h("div", all);
  }

  /** parts: {key: count}; `unexpected` is a line at the bar's foot; `ended` of `total`, and `text`, are for screen readers. */
  draw(parts, total, unexpected, ended, text) {
    const percent = (n) => (100 * n) / Math.max(1, total);
    const shown = SIGNS.filter(([name]) => parts[name]).map(([name]) => name);
    const widths = shown.map((name) => Math.max(LEAST_PERCENT, percent(parts[name])));
    const surplus = widths.reduce((sum, width) => sum + width, 0) - 100;
    if (surplus > 0) widths[widths.indexOf(Math.max(...widths))] -= surplus;
    let from = 0;
    const stop = (name, i) => `var(--nbrun-${name}) ${from.toFixed(2)}% ${(from += widths[i]).toFixed(2)}%`;
    const stops = [...shown.map(stop), `transparent ${from.toFixed(2)}%`];
    const line = unexpected && Math.max(1, percent(unexpected)).toFixed(2);
    const mark = line ? `linear-gradient(90deg, var(--nbrun-unexpected) ${line}%, transparent ${line}%), ` : "";
    const image = `${mark}linear-gradient(90deg, ${stops.join(", ")})`;
    if (this.image !== image) {
      this.element.style.backgroundImage = this.image = image;
      this.element.style.backgroundSize = mark ? "100% 3px, 100% 100%" : "";
    }
    setAttribute(this.element, "aria-valuenow", ended);
    setAttribute(this.element, "aria-valuemax", total);
    setAttribute(this.element, "aria-valuetext", text);
  }
}

/** Splits counts into what a bar shows. `judgeDone` of the judge's errors are results, the others are errors. */
function segments({ done, accepted, rejected, errors, judge_errors: judge, running, waiting }, judgeDone) {
  return {
    accepted,
    rejected,
    done: Math.max(0, done - accepted - rejected - judgeDone),
    judge,
    errors: Math.max(0, errors - (judge - judgeDone)),
    running,
    waiting,
  };
}

/** Puts a text on the clipboard, also where the page may not use the modern way (no https). */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = document.body.appendChild(h("textarea", { style: "position: fixed; opacity: 0" }));
    box.value = text;
    box.select();
    document.execCommand("copy");
    box.remove();
  }
}

/** A text with its own scroll bar. It takes the focus, so that it can be scrolled by keyboard. */
const textBox = (label, text = "") => h("pre", { tabindex: "0", role: "group", "aria-label": label }, text);

/** A button that copies what `text()` returns, and confirms it for a moment. */
function copyButton(label, text) {
  const made = button(
    "Copy",
    async () => {
      await copy(text());
      setText(made, "Copied");
      setTimeout(() => setText(made, "Copy"), 1500);
    },
    { "aria-label": label, class: "nbrun-small" },
  );
  return made;
}
