// The field a concept is written in, pickers for labels of documents, and what is scored and ranked by.

import "./query.css";
import { button, field, h, NO_SHORTCUTS, uniqueId } from "../shared/dom";
import { MEASURES, type Model, type PanelState } from "./state";

const DELAY = 160; // milliseconds without a key before Python reads what is written
const MAX_WRITTEN = 10_000; // letters, as in saekit/specificity/concept_grammar.py

const HELP: [string, string][] = [
  ["bridge", "the word, in any case"],
  ["golden gate, bay bridge", "one of several words or phrases"],
  ["/\\bbridges?\\b/", "a regular expression; /Gate/c in exact case, /gate/+2 with two tokens behind it"],
  ["topic:bridge", "documents with this value of a label; topic:a|b with one of two"],
  ["a and b, a or b, not a, ( )", "put together: tokens of both, of one, all others"],
];

export interface QueryForm {
  element: HTMLElement;
  draw(): void;
}

/** `set` sets traits that Python answers. */
export function queryForm(
  model: Model,
  set: (values: Partial<PanelState>) => void,
  signal: AbortSignal | undefined,
): QueryForm {
  const error = h("p", { class: "sk-query-error", role: "status", id: uniqueId("query-error") });
  const text = h("textarea", {
    rows: 1,
    maxlength: MAX_WRITTEN,
    placeholder: "bridge or golden gate, /\\bbridges?\\b/, topic:bridge and not style:chat",
    spellcheck: "false",
    autocapitalize: "off",
    "aria-describedby": error.id,
    ...NO_SHORTCUTS,
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const send = () => {
    clearTimeout(timer);
    timer = undefined;
    if (text.value !== model.get("query")) set({ query: text.value });
  };
  const grow = () => {
    text.style.height = "auto";
    if (text.scrollHeight > 0) text.style.height = `${Math.min(140, text.scrollHeight + 2)}px`;
  };
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(send, DELAY);
    grow();
  });
  text.addEventListener("change", send);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  signal?.addEventListener("abort", () => clearTimeout(timer));

  const unit = h("select", NO_SHORTCUTS);
  unit.append(h("option", { value: "token" }, "tokens"), h("option", { value: "document" }, "documents"));
  unit.addEventListener("change", () => set({ unit: unit.value }));
  const by = h("select", NO_SHORTCUTS);
  by.append(...Object.entries(MEASURES).map(([value, name]) => h("option", { value }, name)));
  by.addEventListener("change", () => set({ by: by.value }));
  const picker = labelPicker(model, (written, how) => {
    text.value = combined(text.value, written, how);
    grow();
    send();
  });
  const help = h(
    "details",
    { class: "sk-help" },
    h("summary", {}, "How to write a concept"),
    h("dl", {}, ...HELP.flatMap(([form, means]) => [h("dt", {}, h("code", {}, form)), h("dd", {}, means)])),
  );
  const element = h(
    "div",
    { class: "sk-query", role: "search", "aria-label": "What is looked for" },
    field("Concept", text, "sk-written"),
    error,
    h("div", { class: "sk-controls" }, field("Score", unit), field("Rank by", by), picker.element, help),
  );
  element.addEventListener("keydown", (event) => event.stopPropagation());

  const draw = () => {
    const live = model.get("live");
    if (timer === undefined && text.value !== model.get("query")) {
      text.value = model.get("query");
      grow();
    }
    error.textContent = model.get("query_error");
    error.hidden = error.textContent === "";
    text.setAttribute("aria-invalid", String(!error.hidden));
    text.readOnly = !live;
    unit.value = model.get("unit");
    by.value = model.get("by");
    unit.disabled = by.disabled = !live;
    help.hidden = !live;
    picker.draw(live);
  };
  return { element, draw };
}

/** The written concept with one more term; what binds less than `and` is put in parentheses. */
export function combined(query: string, written: string, how: "and" | "or" | "and not"): string {
  const before = query.trim();
  if (before === "") return how === "and not" ? `not ${written}` : written;
  const binds = how === "or" || !/(^|[\s)])or([\s(]|$)/i.test(before) ? before : `(${before})`;
  return `${binds} ${how} ${written}`;
}

function labelPicker(model: Model, add: (written: string, how: "and" | "or" | "and not") => void) {
  const label = h("select", { "aria-label": "Label of documents", ...NO_SHORTCUTS });
  const value = h("select", { "aria-label": "Value of the label", ...NO_SHORTCUTS });
  const fill = () => {
    const values = model.get("labels")[label.value] ?? [];
    value.replaceChildren(...values.map(({ shown, written, n }) => h("option", { value: written }, `${shown} (${n})`)));
  };
  label.addEventListener("change", fill);
  const buttons = (["and", "or", "and not"] as const).map((how) => {
    const element = button(how, "sk-button", () => add(value.value, how));
    element.setAttribute("aria-label", `Add to the concept: ${how} this label`);
    return element;
  });
  const name = h("span", { class: "sk-field-name" }, "Documents of");
  const element = h(
    "span",
    { class: "sk-field sk-picker", role: "group", "aria-label": "Labels of documents" },
    name,
    label,
    value,
    h("span", { class: "sk-buttons" }, ...buttons),
  );
  let drawn = "";
  return {
    element,
    draw(live: boolean) {
      const names = Object.keys(model.get("labels"));
      element.hidden = !live || names.length === 0;
      if (drawn === names.join("\n")) return;
      drawn = names.join("\n");
      label.replaceChildren(...names.map((text) => h("option", { value: text }, text)));
      fill();
    },
  };
}
