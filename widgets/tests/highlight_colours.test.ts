import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { N_HUES } from "../src/highlight/state";

type RGB = [number, number, number];

const css = readFileSync("src/token_highlight.css", "utf8");
const hex = (text: string): RGB => [1, 3, 5].map((i) => Number.parseInt(text.slice(i, i + 2), 16) / 255) as RGB;
const hues = Array.from({ length: N_HUES }, (_, i) => hex(css.match(`--sk-hue-${i}: (#[0-9a-f]{6})`)?.[1] ?? ""));
const strength = (name: string) =>
  Number(css.match(`--sk-heat: color-mix\\(in srgb, var\\(${name}\\) (\\d+)%`)?.[1]) / 100;

const linear = (c: number) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const luminance = (c: RGB) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
const contrast = (a: RGB, b: RGB) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
};
const mixed = (colour: RGB, page: RGB, share: number) =>
  colour.map((c, i) => c * share + (page[i] ?? 0) * (1 - share)) as RGB;
const times = (m: number[][], v: number[]) => m.map((row) => row.reduce((sum, c, i) => sum + c * (v[i] ?? 0), 0));

// Machado et al. 2009, severity 1: none, protan, deutan, tritan
const SIGHTS = [
  [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
];
const oklab = (c: RGB, sight: number[][]) => {
  const seen = times(sight, c.map(linear)).map((x) => Math.min(1, Math.max(0, x)));
  const lms = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
  ];
  const lab = [
    [0.2104542553, 0.793617785, -0.0040720468],
    [1.9779984951, -2.428592205, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.808675766],
  ];
  return times(lab, times(lms, seen).map(Math.cbrt));
};

const PAGES: [string, string, string][] = [
  ["a plain page", "#ffffff", "#16181d"],
  ["a plain page, dark", "#17191d", "#eceef1"],
  ["JupyterLab", "#ffffff", "#000000"],
  ["JupyterLab, dark", "#111111", "#ffffff"],
];

describe("the colours of a highlight", () => {
  test.each(PAGES)("leave text a contrast of 4.5 at every heat: %s", (_, page, text) => {
    for (let heat = 0; heat <= 1; heat += 0.05) {
      for (const hue of hues) {
        expect(contrast(mixed(hue, hex(page), heat * strength("--sk-hue")), hex(text))).toBeGreaterThan(4.5);
      }
      const orange = mixed(hex("#f07800"), hex(page), heat * strength("--sk-orange"));
      expect(contrast(orange, hex(text))).toBeGreaterThan(4.5);
    }
  });
  test.each(PAGES)("have lines that stand out by 3 to 1: %s", (_, page) => {
    for (const hue of hues) expect(contrast(hue, hex(page))).toBeGreaterThanOrEqual(2.99);
  });
  test("are told apart with any colour blindness", () => {
    for (const sight of SIGHTS) {
      const seen = hues.map((hue) => oklab(hue, sight));
      const distances = seen.flatMap((a, i) =>
        seen.slice(i + 1).map((b) => Math.hypot(...a.map((x, j) => x - (b[j] ?? 0)))),
      );
      expect(Math.min(...distances)).toBeGreaterThan(0.09);
    }
  });
});
