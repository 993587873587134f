// The controls of a run, made from ACTIONS: the table in actions.py defines what each does and when it is enabled.

/** One button for all actions that share it. It shows the enabled one, and asks that action's question first. */
class ActionButton {
  /** `act(element, action, more)` sends a click. */
  constructor(actions, act) {
    this.actions = actions;
    this.act = act;
    this.action = actions[0];
    const isSmall = this.action.place === "notice";
    this.element = button(this.action.label, () => this.press(), {
      class: isSmall ? "nbrun-small" : `nbrun-${this.action.button}`,
    });
    this.question = this.makeQuestion(actions.find(({ choices }) => choices.length));
    this.elements = this.question ? [this.element, this.question] : [this.element];
  }

  makeQuestion(action) {
    if (!action) return null;
    const choices = action.choices.map(({ label, ...more }) =>
      button(label, () => {
        this.act(this.element, action, more);
        this.ask(false);
      }),
    );
    return h(
      "span",
      { class: "nbrun-question", role: "group", "aria-label": action.question, hidden: "" },
      `${action.label}: `,
      ...choices,
      button("Cancel", () => this.ask(false)),
    );
  }

  press() {
    if (this.action.choices.length) this.ask(true);
    else this.act(this.element, this.action);
  }

  /** Shows the question instead of the button, or the button again. */
  ask(isAsked) {
    this.question.hidden = !isAsked;
    this.element.hidden = isAsked;
    (isAsked ? this.question.querySelector("button") : this.element).focus();
  }

  draw(head, isLive) {
    const { can } = head;
    const here = this.actions.filter((action) => action.in_watch === !!head.watched);
    this.action = here.find(({ name }) => can.includes(name)) ?? here[0] ?? this.action;
    const isOn = isLive && can.includes(this.action.name);
    if (this.question && !isOn) this.question.hidden = true;
    const isAsked = this.question && !this.question.hidden;
    setText(this.element, this.action.label);
    setAttribute(this.element, "title", this.action.hint);
    this.element.disabled = !isOn;
    this.element.hidden = !here.length || isAsked || (this.action.place === "notice" && !isOn);
  }
}

/** A field for a number. It shows the head's value, except while it is being edited. */
class ActionField {
  constructor(action, act) {
    this.action = action;
    this.act = act;
    this.input = h("input", {
      type: "number",
      min: "1",
      max: "100000",
      step: "1",
      "aria-label": action.label,
      "data-lm-suppress-shortcuts": "true",
      onchange: () => this.change(),
      onkeydown: (event) => event.stopPropagation(),
    });
    this.label = h("label", { class: `nbrun-${action.name}` }, `${action.label} `, this.input);
    this.elements = [this.label];
  }

  change() {
    const n = Math.round(Number(this.input.value));
    if (n >= 1) this.act(this.input, this.action, { n });
    else this.drawValue();
  }

  draw(head, isLive) {
    this.value = head[this.action.name];
    this.label.hidden = this.action.in_watch !== !!head.watched;
    this.input.disabled = !isLive || !head.can.includes(this.action.name);
    const isChanging = this.input === this.input.getRootNode().activeElement || this.input.hasAttribute("aria-busy");
    if (!isChanging) this.drawValue();
  }

  drawValue() {
    if (this.value) this.input.value = this.value;
  }
}

/** All controls: `row` and `notice` are the elements of those in the row, and of those beside the notice. */
class Controls {
  constructor(act) {
    this.can = [];
    const byButton = {};
    for (const action of Object.values(ACTIONS)) (byButton[action.button] ??= []).push(action);
    this.controls = Object.values(byButton).map((actions) =>
      actions[0].place === "number" ? new ActionField(actions[0], act) : new ActionButton(actions, act),
    );
    const elementsAt = (isInNotice) =>
      this.controls
        .filter(({ action }) => (action.place === "notice") === isInNotice)
        .flatMap(({ elements }) => elements);
    this.row = elementsAt(false);
    this.notice = elementsAt(true);
  }

  /** `isLive`: the kernel answers. `root` is focused where no control can be. */
  draw(head, isLive, root) {
    this.can = isLive ? head.can : [];
    const focused = root.getRootNode().activeElement;
    const hasFocus = !!focused && [...this.row, ...this.notice].some((element) => element.contains(focused));
    for (const control of this.controls) control.draw(head, isLive);
    // A control that is disabled or hidden while it has the focus would drop it to the page.
    if (hasFocus && (focused.disabled || focused.closest("[hidden]"))) {
      const next = this.row.find((element) => element.localName === "button" && !element.disabled && !element.hidden);
      (next ?? root).focus({ preventScroll: true });
    }
  }

  /** Whether an action is possible now. */
  allows(action) {
    return this.can.includes(action.name);
  }
}
