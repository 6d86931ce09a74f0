import { expect, test } from "vitest";
import { describeParts } from "../src/circuits/parts";
import { contrast, parseRgb } from "../src/shared/contrast";
import { all, one } from "./support";

test("controls and pictures of CircuitsVis get names, and tokens black or white text", () => {
  const el = document.createElement("div");
  const greys = Array.from(
    { length: 26 },
    (_, i) => `<button style="background-color: rgb(${i * 10}, ${i * 9}, 90)">a</button>`,
  );
  el.innerHTML = `
    <figure><canvas></canvas><figcaption>Head 0</figcaption></figure>
    <select></select><button style="background-color: rgb(0, 0, 0)">\u00a0</button>${greys.join("")}`;
  describeParts(el);
  expect(one(el, "canvas").getAttribute("aria-label")).toBe("Head 0");
  expect(one(el, "select").getAttribute("aria-label")).toBe("Direction of attention");
  expect(one(el, "button").getAttribute("aria-label")).toBe("space");
  for (const { style } of all(el, "button").slice(1)) {
    const background = parseRgb(style.backgroundColor);
    expect(contrast(background ?? [0, 0, 0], style.color === "white" ? [255, 255, 255] : [0, 0, 0])).toBeGreaterThan(
      4.5,
    );
  }
  const html = el.innerHTML;
  describeParts(el);
  expect(el.innerHTML).toBe(html); // nothing is set twice: an observer of the element would never rest
});
