// A feature as a small button: its number, the tokens it promotes and a value.

import { button, h } from "./dom";

export interface ChipContent {
  name?: string | undefined; // tokens the feature promotes
  value?: string;
  fraction?: number; // of the chip that is filled with colour, 0 to 1
  label: string; // what screen readers say
}

export function featureChip(
  feature: number,
  { name, value, fraction, label }: ChipContent,
  onClick: (chip: HTMLButtonElement) => void,
): HTMLButtonElement {
  const chip = button("", "sk-chip", () => onClick(chip));
  chip.dataset.feature = String(feature);
  chip.append(h("b", {}, String(feature)));
  if (name) chip.append(h("span", { class: "sk-name" }, name));
  if (value !== undefined) chip.append(h("span", { class: "sk-num" }, value));
  if (fraction !== undefined) chip.style.setProperty("--a", fraction.toFixed(3));
  chip.setAttribute("aria-label", label);
  return chip;
}

export const promotes = (name: string | undefined): string => (name ? `, promotes ${name}` : "");
