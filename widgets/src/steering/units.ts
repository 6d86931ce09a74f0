// Strengths in three units, sliders for them, and how conditions and runs are put in words. Pure: no document.

import { glyphs, number } from "../shared/text";
import type { Condition, Reply, Run } from "./state";

export const UNITS: Record<string, string> = {
  raw: "raw activation",
  max: "\u00d7 its maximum",
  norm: "\u00d7 residual norm",
};
const AMOUNTS: Record<string, string> = { ...UNITS, raw: "raw" };
const SHORT: Record<string, string> = { raw: "raw", max: "\u00d7 max", norm: "\u00d7 norm" };
export const POSITIONS: Record<string, string> = {
  all: "all tokens",
  prompt: "the prompt only",
  generated: "new tokens only",
};

/** What a unit is worth: a feature's maximum in the index and the usual residual norm, both raw, 0 when unknown. */
export interface Worth {
  max: number;
  residual: number;
}

const worthOf = (unit: string, { max, residual }: Worth): number =>
  unit === "raw" ? 1 : unit === "max" ? max : unit === "norm" ? residual : 0;

/** A strength in another unit; null when what one of the two is worth is unknown. */
export function convert(value: number, from: string, to: string, worth: Worth): number | null {
  if (from === to) return value;
  const [a, b] = [worthOf(from, worth), worthOf(to, worth)];
  return a > 0 && b > 0 ? (value * a) / b : null;
}

/** The same strength in the other units: "≈ 56 raw · 3.1 × max". */
export function elsewhere(strength: number, unit: string, worth: Worth): string {
  const parts = Object.entries(SHORT).flatMap(([other, words]) => {
    const value = other === unit ? null : convert(strength, unit, other, worth);
    return value === null ? [] : [`${number(value)} ${words}`];
  });
  return parts.length > 0 && strength !== 0 ? `\u2248 ${parts.join(" \u00b7 ")}` : "";
}

export const amount = (strength: number, unit: string): string => `${number(strength)} ${AMOUNTS[unit] ?? unit}`;

export const amounts = (strengths: readonly number[], unit: string): string =>
  `${strengths.map(number).join(", ")} ${AMOUNTS[unit] ?? unit}`;

export interface Range {
  min: number;
  max: number;
  step: number;
  start: number;
}

/** The slider's range for a unit: up to where text usually breaks up. The box beside it takes any number. */
export function sliderRange(unit: string, featureMax: number, residual = 0): Range {
  if (unit === "norm") return { min: 0, max: 1, step: 0.01, start: 0.5 };
  const known = residual > 0 && (unit === "raw" || featureMax > 0); // then the range is the same stretch in every unit
  if (unit === "max" && !known) return { min: 0, max: 20, step: 0.1, start: 5 };
  const top = known ? (unit === "raw" ? residual : residual / featureMax) : featureMax > 0 ? featureMax * 20 : 100;
  const step = 10 ** Math.floor(Math.log10(top / 200));
  const max = upTo(top, step);
  return { min: 0, max, step, start: tidy(Math.round(max / (known ? 2 : 4) / step) * step) };
}

/** A range that also holds a strength below zero and the recommended strength. */
export function track(unit: string, worth: Worth, strength: number, recommended: number | null): Range {
  const range = sliderRange(unit, worth.max, worth.residual);
  const max = Math.max(range.max, upTo(recommended ?? 0, range.step));
  return { ...range, max, min: strength < 0 ? -max : 0 };
}

const tidy = (value: number): number => Number(value.toPrecision(10));
const upTo = (value: number, step: number): number => tidy(Math.ceil(value / step - 1e-9) * step);

/** Where a value lies on a range, 0 to 1. */
export const fraction = (value: number, { min, max }: Pick<Range, "min" | "max">): number =>
  max > min ? Math.min(1, Math.max(0, (value - min) / (max - min))) : 0;

export const isPlain = (c: Condition): boolean => c.features.length === 0 && c.instruction === "" && c.edits === "";

/** What a condition does, one phrase each. */
export function deeds(condition: Condition, unit: string): string[] {
  if (isPlain(condition)) return ["as it is"];
  const features = condition.features.map((f) => `feature ${f.feature} at ${amount(f.strength, unit)}`);
  return [...features, condition.instruction && `\u201c${condition.instruction}\u201d`, condition.edits].filter(
    Boolean,
  );
}

/** Another condition: the features of the last one that has some, so that two strengths can be compared at once. */
export function nextCondition(conditions: readonly Condition[]): Condition {
  const names = new Set(conditions.map((c) => c.name));
  let i = conditions.length + 1;
  while (names.has(`condition ${i}`)) i++;
  const like = conditions.filter((c) => c.features.length > 0).at(-1)?.features ?? [];
  return { name: `condition ${i}`, features: like.map((f) => ({ ...f })), instruction: "", edits: "" };
}

/** Another feature for condition `at`: one that a neighbour has and it has not, else the lowest number it has not. */
export function nextFeature(conditions: readonly Condition[], at: number): number {
  const own = new Set(conditions[at]?.features.map((f) => f.feature));
  const other = conditions.flatMap((c) => c.features).find((f) => !own.has(f.feature));
  if (other) return other.feature;
  let i = 0;
  while (own.has(i)) i++;
  return i;
}

export const featuresOf = (conditions: readonly Condition[]): number[] => [
  ...new Set(conditions.flatMap((c) => c.features.map((f) => f.feature))),
];

const ENDS: Record<string, string> = { length: ", cut off", stopped: ", stopped" };

/** A reply in figures: [words, what they mean]. */
export function figures(reply: Reply): [string, string][] {
  const n = reply.tokens.length;
  const out: [string, string][] = [];
  if (reply.mean_nll !== null)
    out.push([`nll ${reply.mean_nll.toFixed(2)}`, "mean surprise of the unsteered model per token, in nats"]);
  if (reply.repetition !== null)
    out.push([
      `repeated ${percent(reply.repetition)}`,
      "share of four-token sequences that occurred before in the reply",
    ]);
  const why =
    reply.end === "length"
      ? "The limit on new tokens was reached."
      : reply.end === "stopped"
        ? "Stopped before the end."
        : "";
  out.push([`${n} ${n === 1 ? "token" : "tokens"}${ENDS[reply.end] ?? ""}`, why]);
  return out;
}

/** 0 %, 19 %, 3.4 %: two digits are enough. */
export const percent = (value: number): string => `${Number((value * 100).toPrecision(2))} %`;

/** A probability in a few characters: 99.7 %, 68 %, 8.3 %, 0.09 %, < 0.01 %. */
export function probability(p: number): string {
  const q = p * 100;
  if (q === 0) return "0 %";
  if (q < 0.01) return "< 0.01 %";
  if (q < 1) return `${q.toFixed(2)} %`;
  if (q < 10 || (q >= 99 && q < 99.95)) return `${q.toFixed(1)} %`;
  return `${Math.round(q)} %`;
}

/** How unlikely a token was: "1.91 nats, 15 %". */
export const surprise = (nll: number): string => `${nll.toFixed(2)} nats, ${probability(Math.exp(-nll))}`;

/** The beginning of a text in at most `n` characters, cut between words. */
export function opening(text: string, n = 32): string {
  const line = text.trim().replace(/\s+/g, " ");
  if (line.length <= n) return line;
  const cut = line.slice(0, n);
  return `${cut.replace(/\s+\S*$/, "") || cut}\u2026`;
}

export function runLabel(run: Run): string {
  const n = run.conditions.length;
  return `${glyphs(opening(run.prompt)) || "(empty prompt)"} \u00b7 ${n} ${n === 1 ? "condition" : "conditions"} \u00b7 seed ${run.seed}`;
}

/** How a run was asked for, without its prompt and conditions. */
export function settingsOf(run: Pick<Run, "positions" | "temperature" | "seed" | "max_new_tokens">): string {
  return `applied to ${POSITIONS[run.positions] ?? run.positions}, at most ${run.max_new_tokens} new tokens, temperature ${number(run.temperature)}, seed ${run.seed}`;
}

export const runTitle = (run: Run): string =>
  [
    run.prompt,
    ...run.conditions.map((c) => `${c.name}: ${deeds(c, run.unit).join(", ")}`),
    settingsOf(run),
    run.started,
  ]
    .filter(Boolean)
    .join("\n");

/** A token in running text: line breaks, tabs and joiners stay, other invisible characters are shown by code. */
export const running = (token: string): string =>
  token
    .replace(/\r\n?/g, "\n")
    .split(/([\n\t\u200c\u200d])/)
    .map((part, i) => (i % 2 ? part : glyphs(part)))
    .join("");
