import { describe, expect, test } from "vitest";
import { histogram } from "../src/shared/charts/histogram";
import { axisScale, countScale, linearTicks, logTicks } from "../src/shared/charts/scale";
import { all } from "./support";

describe("scales", () => {
  test("round ticks inside the range", () => {
    expect(linearTicks(0, 1, 4)).toEqual([0, 0.25, 0.5, 0.75, 1]);
    expect(linearTicks(0.13, 0.87, 3)).toEqual([0.25, 0.5, 0.75]);
    expect(linearTicks(-3, 3, 3)).toEqual([-2, 0, 2]);
    expect(linearTicks(5, 5)).toEqual([5]);
    expect(logTicks(0.9, 1100)).toEqual([1, 10, 100, 1000]);
    expect(logTicks(20, 400)).toEqual([20, 50, 100, 200]);
    expect(logTicks(1e-9, 1e9).length).toBeLessThan(8);
  });
  test("logarithmic only where positive values span a decade", () => {
    expect(axisScale([1, 9], { log: true }).log).toBe(false);
    expect(axisScale([1, 11], { log: true }).log).toBe(true);
    expect(axisScale([0, 1000], { log: true }).log).toBe(false);
    expect(axisScale([1, 1000]).log).toBe(false);
    const y = axisScale([1, 10, 100], { log: true });
    expect(y.position(10)).toBeCloseTo(0.5);
    expect(y.position(0)).toBeNaN();
  });
  test("values that are not finite, or all the same, or missing, still give an axis", () => {
    for (const values of [[], [NaN], [Infinity, NaN], [3, 3], [0, 0], [-2]]) {
      for (const options of [{}, { zero: true }, { log: true }, { floor: -0.2 }, { zero: true, percent: true }]) {
        const y = axisScale(values, options);
        expect(y.low).toBeLessThan(y.high);
        expect(y.ticks.length).toBeGreaterThan(0);
        expect(y.ticks.every((t) => y.position(t) >= -1e-9 && y.position(t) <= 1 + 1e-9)).toBe(true);
        expect(new Set(y.ticks.map(y.label)).size).toBe(y.ticks.length);
      }
    }
  });
  test("a floor cuts only what lies below it", () => {
    expect(axisScale([-50, 0.8], { floor: -0.2 }).low).toBe(-0.2);
    expect(axisScale([0.4, 0.8], { floor: -0.2 }).low).toBeCloseTo(0.376);
    expect(axisScale([-5, -4], { floor: -0.2 }).high).toBeGreaterThan(-4.1);
  });
  test("one notation along an axis", () => {
    const y = axisScale([0, 1e-3], { zero: true });
    expect(y.ticks.map(y.label)).toEqual(["0", "2.5e\u22124", "5e\u22124", "7.5e\u22124", "1e\u22123"]);
  });
});

describe("counts", () => {
  test("zero lies at the bottom and one is a visible bar", () => {
    const y = countScale(100);
    expect(y.position(0)).toBe(0);
    expect(y.position(1)).toBeGreaterThan(0.1);
    expect(y.position(100)).toBeCloseTo(1);
  });
  test("ticks are whole numbers that reach no further than the data", () => {
    expect(countScale(2).ticks).toEqual([1, 2]);
    expect(countScale(1).ticks).toEqual([1]);
    expect(countScale(120_000).ticks).toEqual([1, 10, 100, 1000, 10_000, 100_000]);
    expect(countScale(1e9).ticks.length).toBeLessThanOrEqual(6);
    expect([1000, 20_000, 3e6].map(countScale(3e6).label)).toEqual(["1,000", "20k", "3M"]);
  });
});

describe("histogram", () => {
  test("a bar and its range for each bin that is not empty", () => {
    const figure = histogram([0, 1, 2, 3], [9, 0, 3]);
    const bars = all(figure, "rect");
    expect(bars.map((bar) => bar.textContent)).toEqual(["0 to 1: 9", "2 to 3: 3"]);
    expect(Number(bars[0]?.getAttribute("height"))).toBeGreaterThan(Number(bars[1]?.getAttribute("height")));
    expect(all(figure, "text").map((t) => t.textContent)).toEqual([
      "1",
      "2",
      "5",
      "0",
      "1",
      "2",
      "3",
      "activation",
      "tokens (log scale)",
    ]);
  });
  test("no activations are no picture", () => {
    expect(histogram([0, 1], [0]).textContent).toBe("No activations to draw.");
  });
});
