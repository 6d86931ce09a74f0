// Bars and colour scales made of HTML elements, for tables, lists and legends.

import "./bars.css";
import { h } from "../dom";

/** A bar that fills `fraction` of the width it is given. */
export function bar(fraction: number, className: string): HTMLElement {
  const element = h("span", { class: className, "aria-hidden": "true" });
  element.style.setProperty("--a", fraction.toFixed(3));
  return element;
}

export interface ColourScale {
  element: HTMLElement;
  /** `unit` stands after the largest value. */
  draw(max: string, unit?: string): void;
}

/** The legend of a colour scale from 0 to its largest value. */
export function colourScale(): ColourScale {
  const [high, unit] = [h("span"), h("span", { class: "sk-muted" })];
  const ramp = h("span", { class: "sk-ramp" });
  const element = h("span", { class: "sk-scale", role: "img" }, h("span", {}, "0"), ramp, high, unit);
  return {
    element,
    draw(max, unitText = "") {
      high.textContent = max;
      unit.textContent = unitText;
      unit.hidden = unitText === "";
      element.setAttribute("aria-label", `Colour scale from 0 to ${max}${unitText && ` ${unitText}`}`);
    },
  };
}
