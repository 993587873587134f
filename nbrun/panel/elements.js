// Small things that all parts of the page are made of. Text only ever becomes text.

/** After so long a view says that it waits for the kernel. */
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

const button = (name, act, more = {}) =>
  h("button", { type: "button", ...more, onclick: (event) => act(event.currentTarget) }, name);

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

const setAttribute = (element, name, value) => {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
};

const number = (n) => n.toLocaleString("en-US");
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;
const clip = (text, characters = 300) => (text.length > characters ? `${text.slice(0, characters - 1)}…` : text);

const duration = (seconds) => {
  const s = Math.round(seconds);
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const first = Math.max(0, parts.findIndex(([n]) => n));
  return (s ? parts.slice(first, first + 2).filter(([n], i) => n || !i) : [[0, "s"]]).map(([n, unit]) => `${n} ${unit}`).join(" ");
};

/** A time as it was measured, to three digits like `time_text` in Python; times of the feed are whole milliseconds. */
const seconds = (s) => (s >= 60 ? duration(s) : s >= 1 ? `${Number(s.toPrecision(3))} s` : s >= 0.0005 ? `${Math.round(1000 * s)} ms` : "< 1 ms");

/** The signs beside the colours: [key, sign, word]. */
const SIGNS = [["accepted", "✓", "accepted"], ["rejected", "✗", "rejected"], ["done", "•", "done"], ["judge", "?", "judge errors"],
  ["errors", "!", "errors"], ["running", "▸", "running"]];

/** A bar in segments as one background: no element a segment. parts: {key: count} */
function paint(element, parts, total) {
  let from = 0;
  const stops = [];
  for (const [name] of SIGNS) {
    if (!parts[name]) continue;
    const to = from + (100 * parts[name]) / Math.max(1, total);
    stops.push(`var(--nbrun-${name}) ${from.toFixed(2)}% ${to.toFixed(2)}%`);
    from = to;
  }
  stops.push(`transparent ${from.toFixed(2)}%`);
  const image = `linear-gradient(90deg, ${stops.join(", ")})`;
  if (element.nbrunImage !== image) element.style.backgroundImage = element.nbrunImage = image;
}

/** Splits counts into what a bar shows. Of the judge's errors some are results, some errors; `judgeDone` are results. */
function segments({ done, accepted, rejected, errors, judge, running }, judgeDone) {
  return { accepted, rejected, done: Math.max(0, done - accepted - rejected - judgeDone), judge,
    errors: Math.max(0, errors - (judge - judgeDone)), running };
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
