// Feature strengths in three units, and the range of a slider for them. Pure: no document.

import { formatNumber } from "../shared/numbers";

export const UNIT_NAMES: Record<string, string> = {
  raw: "raw activation",
  max: "\u00d7 its maximum",
  norm: "\u00d7 residual norm",
};
const UNIT_LABELS: Record<string, string> = { ...UNIT_NAMES, raw: "raw" };
const SHORT_UNIT_LABELS: Record<string, string> = { raw: "raw", max: "\u00d7 max", norm: "\u00d7 norm" };

/** A feature's maximum in the index and the usual residual norm, both raw, 0 where unknown. */
export interface FeatureScale {
  max: number;
  residual: number;
}

const unitSize = (unit: string, { max, residual }: FeatureScale): number =>
  unit === "raw" ? 1 : unit === "max" ? max : unit === "norm" ? residual : 0;

/** A strength in another unit; null where the size of one of the two is unknown. */
export function convert(value: number, from: string, to: string, scale: FeatureScale): number | null {
  if (from === to) return value;
  const [a, b] = [unitSize(from, scale), unitSize(to, scale)];
  return a > 0 && b > 0 ? (value * a) / b : null;
}

/** The same strength in the other units: "≈ 56 raw · 3.1 × max". */
export function inOtherUnits(strength: number, unit: string, scale: FeatureScale): string {
  const parts = Object.entries(SHORT_UNIT_LABELS).flatMap(([other, label]) => {
    const value = other === unit ? null : convert(strength, unit, other, scale);
    return value === null ? [] : [`${formatNumber(value)} ${label}`];
  });
  return parts.length > 0 && strength !== 0 ? `\u2248 ${parts.join(" \u00b7 ")}` : "";
}

export const formatStrengths = (strengths: readonly number[], unit: string): string =>
  `${strengths.map(formatNumber).join(", ")} ${UNIT_LABELS[unit] ?? unit}`;

export const formatStrength = (strength: number, unit: string): string => formatStrengths([strength], unit);

export interface SliderRange {
  min: number;
  max: number;
  step: number;
  start: number;
}

/** The slider's range for a unit: up to where text usually breaks down. The number beside it has no limit. */
export function sliderRange(unit: string, featureMax: number, residual = 0): SliderRange {
  if (unit === "norm") return { min: 0, max: 1, step: 0.01, start: 0.5 };
  const known = residual > 0 && (unit === "raw" || featureMax > 0); // then all units have the same range
  if (unit === "max" && !known) return { min: 0, max: 20, step: 0.1, start: 5 };
  const top = known ? (unit === "raw" ? residual : residual / featureMax) : featureMax > 0 ? featureMax * 20 : 100;
  const step = 10 ** Math.floor(Math.log10(top / 200));
  const max = ceilTo(top, step);
  return { min: 0, max, step, start: withoutRoundingError(Math.round(max / (known ? 2 : 4) / step) * step) };
}

/** The range, extended to a strength below zero and to the recommended strength. */
export function sliderRangeIncluding(
  unit: string,
  scale: FeatureScale,
  strength: number,
  recommended: number | null,
): SliderRange {
  const range = sliderRange(unit, scale.max, scale.residual);
  const max = Math.max(range.max, ceilTo(recommended ?? 0, range.step));
  return { ...range, max, min: strength < 0 ? -max : 0 };
}

const withoutRoundingError = (value: number): number => Number(value.toPrecision(10));
const ceilTo = (value: number, step: number): number => withoutRoundingError(Math.ceil(value / step - 1e-9) * step);

/** Where a value lies on a range, 0 to 1. */
export const fraction = (value: number, { min, max }: Pick<SliderRange, "min" | "max">): number =>
  max > min ? Math.min(1, Math.max(0, (value - min) / (max - min))) : 0;
