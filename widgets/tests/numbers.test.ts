import { expect, test } from "vitest";
import * as numbers from "../src/shared/numbers";

/** A value as each formatter of one value writes it. */
const written = (value: number): [string, string][] => [
  ["formatNumber", numbers.formatNumber(value)],
  ["formatAligned", numbers.formatAligned(value)],
  ["formatPercent", numbers.formatPercent(value)],
  ["formatFixed", numbers.formatFixed(value, 2)],
  ["formatCompact", numbers.formatCompact(value)],
];

test("no value that 32 bits hold is written with their noise", () => {
  const values = [50.2, 0.1, 1.1, 3.3, 0.000123, 12345.678, 999.95, 1e-7, 1e9, -50.2].map(Math.fround);
  for (const value of values) {
    for (const [name, text] of written(value)) {
      const digits = text.replace(/[^\d]/g, "").replace(/^0+/, "");
      const significant = digits.replace(/0+$/, "");
      expect(significant.length, `${name} of ${value}: ${text}`).toBeLessThanOrEqual(7);
      expect(text, name).not.toMatch(/0{4}[1-9]$|9{4}\d$/);
    }
  }
});

test("what is no number is a dash everywhere", () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    for (const [name, text] of written(value)) expect([name, text]).toEqual([name, "\u2013"]);
  }
});
