// A feature as a small button: its number, its name and a value.

import { button, h } from "./dom";

export interface ChipContent {
  name?: string | undefined;
  value?: string | undefined;
  measure?: string; // what the value is, for screen readers: "cosine"
  action: string; // what a click does, for screen readers: "open its card"
  fraction?: number; // of the chip that is filled with colour, 0 to 1
}

/** The chip. A screen reader says what is seen, with the words between that the eye does not need. */
export function featureChip(
  feature: number,
  { name, value, measure, action, fraction }: ChipContent,
  onClick: (chip: HTMLButtonElement) => void,
): HTMLButtonElement {
  const chip = button("", "sk-chip", () => onClick(chip));
  chip.dataset.feature = String(feature);
  chip.append(spoken("Feature "), h("b", {}, String(feature)));
  if (name) chip.append(spoken(" "), h("span", { class: "sk-name", title: name }, name));
  if (value !== undefined) chip.append(spoken(`, ${measure ?? "value"} `), h("span", { class: "sk-num" }, value));
  chip.append(spoken(`; ${action}`));
  if (fraction !== undefined) chip.style.setProperty("--a", fraction.toFixed(3));
  return chip;
}

const spoken = (text: string): HTMLElement => h("span", { class: "sk-visually-hidden" }, text);
