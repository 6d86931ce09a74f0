// What CircuitsVis leaves out of its elements: names for its controls and pictures, and text that can be read on them.

import { contrast, parseRgb } from "../shared/contrast";
import { tokenSpeech } from "../shared/tokens";

/** Names the selects, buttons and pictures that have no name, and gives each coloured button black or white text. */
export function describeParts(el: Element): void {
  for (const select of el.querySelectorAll("select")) name(select, "Direction of attention");
  for (const button of el.querySelectorAll("button")) {
    const text = button.textContent ?? "";
    if (text.trim() === "") name(button, tokenSpeech(text.replaceAll("\u00a0", " ")));
    const background = parseRgb(button.style.backgroundColor);
    if (background) setColour(button, contrast(background, BLACK) >= contrast(background, WHITE) ? "black" : "white");
  }
  for (const canvas of el.querySelectorAll("canvas")) {
    const heading = canvas.parentElement?.querySelector("figcaption, h4")?.textContent;
    if (heading) name(canvas, heading);
    if (!canvas.hasAttribute("role")) canvas.setAttribute("role", "img");
  }
}

const [BLACK, WHITE] = [[0, 0, 0] as const, [255, 255, 255] as const];

function name(element: Element, label: string): void {
  if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
}

/** Against the component's own choice, which it sets again whenever it draws; the same value is not set twice. */
function setColour(element: HTMLElement, colour: string): void {
  const { style } = element;
  if (style.getPropertyValue("color") === colour && style.getPropertyPriority("color") === "important") return;
  style.setProperty("color", colour, "important");
}
