import { describe, expect, test } from "vitest";
import { contrast, luminance, parseRgb, type Rgb } from "../src/shared/contrast";
import { colour, declarations } from "./css_colours";

const BASE = "shared/base.css";
const HEATS = Array.from({ length: 101 }, (_, i) => i / 100);

/** Background and text of the hosts' themes. */
const THEMES: Record<string, [background: string, text: string]> = {
  "own, light": ["#fff", "#16181d"],
  "own, dark": ["#17191d", "#eceef1"],
  "JupyterLab, light": ["#fff", "#000"],
  "JupyterLab, dark": ["#111", "#fff"],
  "JupyterLab, cells of the dark theme": ["#212121", "#fff"],
  "VS Code, Light Modern": ["#fff", "#3b3b3b"],
  "VS Code, Dark Modern": ["#1f1f1f", "#ccc"],
  "VS Code, Dark+": ["#1e1e1e", "#d4d4d4"],
  "One Dark": ["#282c34", "#abb2bf"],
  Monokai: ["#272822", "#f8f8f2"],
};

/** What has text on a colour: a rule's background, and the rule that gives the text's colour. */
interface Coloured {
  file: string;
  background: string;
  property?: string;
  text?: [file: string, selector: string] | "fg" | "muted";
}

const COLOURED: Record<string, Coloured> = {
  "a token at a heat": { file: BASE, background: ".saekit .sk-token", text: [BASE, ".saekit .sk-token"] },
  "the firing token in the table": { file: "feature_browser.css", background: ".saekit-browser td mark" },
  "the open row": { file: "feature_browser.css", background: ".saekit-browser tbody tr.sk-open", text: "muted" },
  "the main button": { file: BASE, background: ".saekit .sk-button.sk-primary" },
  "a running run": { file: "training_monitor.css", background: '.saekit-monitor .sk-status[data-status="running"]' },
  "a concept that is mentioned": {
    file: "steering/replies.css",
    background: ".saekit-steering .sk-concept.sk-present",
  },
  "a pressed choice": {
    file: "steering/colour_controls.css",
    background: '.saekit-steering .sk-choice button[aria-pressed="true"]',
  },
  "the filled part of a chip": { file: BASE, background: "chip", text: "fg" },
  "a wash behind muted text": { file: BASE, background: "wash", text: "muted" },
};

/** The variables of the widgets in a theme. */
function variables([background, text]: [string, string]): Record<string, string> {
  const own = Object.fromEntries(
    Object.entries(declarations(BASE, ".saekit")).filter(([name]) => name.startsWith("--")),
  );
  return { ...own, "--sk-host-bg": background, "--sk-host-fg": text };
}

function backgroundOf({ file, background }: Coloured): string {
  if (background === "wash") return "var(--sk-wash)";
  if (background !== "chip") return declarations(file, background).background ?? "";
  return (
    /to right,\s*(color-mix\(.*?\)) calc/s.exec(declarations(file, ".saekit .sk-chip").background ?? "")?.[1] ?? ""
  );
}

function textOf({ file, background, text }: Coloured): string {
  if (text === "fg" || text === "muted") return `var(--sk-${text})`;
  const [where, selector] = text ?? [file, background];
  return declarations(where, selector).color ?? "var(--sk-fg)";
}

describe.each(Object.entries(THEMES))("text on colours, %s", (_, theme) => {
  test.each(Object.entries(COLOURED))("%s has a contrast of 4.5 at every heat", (__, coloured) => {
    const own = variables(theme);
    const page = colour("var(--sk-bg)", own);
    const lowest = Math.min(
      ...HEATS.map((heat) => {
        const at = { ...own, "--a": String(heat) };
        return contrast(colour(textOf(coloured), at), colour(backgroundOf(coloured), at, page));
      }),
    );
    expect(lowest).toBeGreaterThanOrEqual(4.5);
  });
});

test("heat is seen: a full one stands out from the background, in every theme", () => {
  for (const theme of Object.values(THEMES)) {
    const own = { ...variables(theme), "--a": "1" };
    const page = colour("var(--sk-bg)", own);
    const full = colour(declarations(BASE, ".saekit .sk-token").background ?? "", own, page);
    expect(contrast(full, page)).toBeGreaterThan(1.9);
  }
});

test("luminance and contrast are those of the standard", () => {
  const [black, white, grey]: Rgb[] = [
    [0, 0, 0],
    [255, 255, 255],
    [118, 118, 118],
  ];
  expect(luminance(white as Rgb)).toBeCloseTo(1, 6);
  expect(contrast(black as Rgb, white as Rgb)).toBeCloseTo(21, 6);
  expect(contrast(grey as Rgb, white as Rgb)).toBeCloseTo(4.54, 2);
  expect(parseRgb("rgb(1, 2, 3)")).toEqual([1, 2, 3]);
  expect(parseRgb("rgba(1, 2, 3, 0.5)")).toBeNull();
});
