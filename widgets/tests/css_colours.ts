// The colours that a stylesheet gives an element, computed: the rules of these widgets with their variables, color-mix()
// in sRGB, oklch() of another colour's lightness, and arithmetic.

import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Rgb } from "../src/shared/contrast";

const SOURCES = path.join(path.dirname(fileURLToPath(import.meta.url)), "../src");

type Colour = [...Rgb, alpha: number];

/** The declarations of the rule whose selector list holds `selector`, over all that come before it. */
export function declarations(file: string, selector: string): Record<string, string> {
  const css = readFileSync(path.join(SOURCES, file), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const found: Record<string, string> = {};
  for (const [, selectors = "", body = ""] of css.matchAll(/([^{}]+)\{([^{}]*)\}/g)) {
    const listed = selectors.split(/,(?![^(]*\))/).map((one) => one.trim().replace(/\s+/g, " "));
    if (!listed.includes(selector)) continue;
    for (const [, name = "", value = ""] of body.matchAll(/([\w-]+)\s*:\s*([^;]+);/g)) found[name] = value.trim();
  }
  if (Object.keys(found).length === 0) throw new Error(`no rule ${selector} in ${file}`);
  return found;
}

/** The parts of a list that no bracket encloses. */
function split(text: string, separator: string): string[] {
  const parts = [""];
  let depth = 0;
  for (const c of text) {
    depth += c === "(" ? 1 : c === ")" ? -1 : 0;
    if (c === separator && depth === 0) parts.push("");
    else parts[parts.length - 1] += c;
  }
  return parts.map((part) => part.trim()).filter(Boolean);
}

/** The text with its variables put in, those that are not known by their fallback. */
function substitute(text: string, variables: Record<string, string>): string {
  const start = text.indexOf("var(");
  if (start < 0) return text;
  let [end, depth] = [start + 4, 1];
  for (; depth > 0; end++) depth += text[end] === "(" ? 1 : text[end] === ")" ? -1 : 0;
  const [name = "", ...fallback] = split(text.slice(start + 4, end - 1), ",");
  const value = variables[name] ?? fallback.join(",");
  if (value === "") throw new Error(`${name} is not known`);
  return substitute(text.slice(0, start) + value + text.slice(end), variables);
}

/** calc(), min(), max() and clamp() of numbers; percentages as fractions. */
function number(text: string, lightness = 0): number {
  const plain = text.replaceAll("%", "*0.01").replaceAll("calc", "").replaceAll(/\bl\b/g, String(lightness));
  const js = plain.replace(/\b(min|max)\(/g, "Math.$1(").replace(/\bclamp\(/g, "clamp(");
  if (!/^[\d\s.,()*/+\-a-zA-Z]+$/.test(js)) throw new Error(`${text} is no arithmetic`);
  const clamp = (low: number, value: number, high: number) => Math.max(low, Math.min(value, high));
  return Number(new Function("clamp", `return ${js}`)(clamp));
}

/** Perceived lightness of OKLCH, 0 to 1. */
function oklchLightness([red, green, blue]: Rgb): number {
  const linear = [red, green, blue].map((value) => {
    const v = value / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  const cone = (a: number, b: number, c: number) => Math.cbrt(a * linear[0] + b * linear[1] + c * linear[2]);
  const l = cone(0.4122214708, 0.5363325363, 0.0514459929);
  const m = cone(0.2119034982, 0.6806995451, 0.1073969566);
  const s = cone(0.0883024619, 0.2817188376, 0.6299787005);
  return 0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s;
}

function evaluate(text: string): Colour {
  const hex = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text)?.[1];
  if (hex) {
    const six = hex.length === 3 ? hex.replace(/./g, "$&$&") : hex;
    return [...([0, 2, 4].map((i) => Number.parseInt(six.slice(i, i + 2), 16)) as [number, number, number]), 1];
  }
  if (text === "transparent") return [0, 0, 0, 0];
  const [, name, inside = ""] = /^([\w-]+)\((.*)\)$/s.exec(text) ?? [];
  if (name === "color-mix") {
    const parts = split(inside, ",").slice(1);
    const [first, second] = parts.map((part) => split(part, " ")) as [string[], string[]];
    const share = Math.min(1, Math.max(0, number(first[1] ?? "50%")));
    const [a, b] = [evaluate(first[0] ?? ""), evaluate(second[0] ?? "")];
    const alpha = a[3] * share + b[3] * (1 - share);
    const channel = (i: 0 | 1 | 2) => (alpha > 0 ? (a[i] * a[3] * share + b[i] * b[3] * (1 - share)) / alpha : 0);
    return [channel(0), channel(1), channel(2), alpha];
  }
  if (name === "oklch") {
    const [from, origin = "", lightness = "", chroma, hue] = split(inside, " ");
    if (from !== "from" || chroma !== "0" || hue !== "0") throw new Error(`${text} is not a grey of another colour`);
    const [r, g, b] = evaluate(origin);
    const l = number(lightness, oklchLightness([r, g, b]));
    if (l !== 0 && l !== 1) throw new Error(`${text} is neither black nor white`);
    return l === 1 ? [255, 255, 255, 1] : [0, 0, 0, 1];
  }
  throw new Error(`${text} is no colour that is known here`);
}

/** The colour of a declaration's value on a background. */
export function colour(value: string, variables: Record<string, string>, background: Rgb = [0, 0, 0]): Rgb {
  const [r, g, b, alpha] = evaluate(substitute(value, variables).replace(/\s+/g, " ").trim());
  const over = (a: number, under: number) => a * alpha + under * (1 - alpha);
  return [over(r, background[0]), over(g, background[1]), over(b, background[2])];
}
