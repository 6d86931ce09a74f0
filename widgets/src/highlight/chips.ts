// A feature of the text as a button: its colour, number, name and values. A screen reader says what is seen, with the
// words between that the eye does not need.

import { button, h } from "../shared/dom";
import { nameText } from "../shared/tokens";

export interface Chip {
  feature: number;
  name: string;
  values: [spoken: string, seen: string][]; // what is said before each value, and the value
  action: string; // what a click does, for screen readers
  slot: string | null; // its colour in the text
  fraction?: number; // of the chip that is filled, 0 to 1
}

export function chip({ feature, name, values, action, slot, fraction }: Chip, click: (chip: HTMLElement) => void) {
  const element = button("", "sk-chip", () => click(element));
  element.dataset.feature = String(feature);
  if (slot !== null) element.append(h("span", { class: "sk-swatch", "data-slot": slot, "aria-hidden": "true" }));
  element.append(hidden("Feature "), h("b", {}, String(feature)));
  if (name) element.append(hidden(" "), h("span", { class: "sk-name", title: nameText(name) }, nameText(name)));
  for (const [spoken, seen] of values) element.append(hidden(`, ${spoken}`), h("span", { class: "sk-num" }, seen));
  element.append(hidden(`; ${action}`));
  if (fraction !== undefined) element.style.setProperty("--a", fraction.toFixed(3));
  return element;
}

const hidden = (text: string): HTMLElement => h("span", { class: "sk-visually-hidden" }, text);
