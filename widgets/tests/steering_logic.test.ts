import { describe, expect, test } from "vitest";
import { replyColouring } from "../src/steering/colouring";
import { featuresOf, nextCondition, nextFeature } from "../src/steering/condition";
import {
  describeCondition,
  formatNll,
  formatProbability,
  replyMetrics,
  replyToken,
  runLabel,
  runTitle,
  truncate,
} from "../src/steering/descriptions";
import type { DisplayedRun } from "../src/steering/replies";
import type { Condition, Detail, Reply, Run } from "../src/steering/state";
import {
  convert,
  formatStrengths,
  fraction,
  inOtherUnits,
  sliderRange,
  sliderRangeIncluding,
} from "../src/steering/strengths";
import { placeCard } from "../src/steering/token_card";
import { listedCandidates } from "../src/steering/token_card_contents";
import cases from "./cases.json";
import { float32, int32 } from "./support";

const plain: Condition = { name: "unsteered", features: [], instruction: "", edits: "" };
const gate: Condition = { name: "gate", features: [{ feature: 3, strength: 0.4 }], instruction: "", edits: "" };
const reply = (changes: Partial<Reply> = {}): Reply => ({
  tokens: ["a", " b"],
  nll: [],
  repetition: null,
  mean_nll: null,
  present: null,
  end: "",
  ...changes,
});

describe("strengths", () => {
  const scale = { max: 18, residual: 140 };
  test("convert between the units, where both are known", () => {
    for (const { value, from, to, converted } of cases.strengths)
      expect(convert(value, from, to, scale)).toBeCloseTo(converted, 3);
    expect(convert(0.4, "norm", "norm", { max: 0, residual: 0 })).toBe(0.4);
    expect([
      convert(1, "norm", "raw", { max: 18, residual: 0 }),
      convert(1, "raw", "max", { max: 0, residual: 140 }),
      convert(1, "raw", "ell", scale),
    ]).toEqual([null, null, null]);
  });
  test("are shown in the other units", () => {
    expect(inOtherUnits(0.4, "norm", scale)).toBe("\u2248 56 raw \u00b7 3.11 \u00d7 max");
    expect(inOtherUnits(0.4, "norm", { max: 0, residual: 140 })).toBe("\u2248 56 raw");
    expect([inOtherUnits(0.4, "norm", { max: 0, residual: 0 }), inOtherUnits(0, "norm", scale)]).toEqual(["", ""]);
  });
  test("the slider's range suits the unit", () => {
    expect(sliderRange("norm", 0)).toEqual({ min: 0, max: 1, step: 0.01, start: 0.5 });
    expect(sliderRange("raw", 5).max).toBeGreaterThanOrEqual(100);
    expect(sliderRange("raw", 0).max).toBe(100);
    expect(sliderRange("max", 0)).toEqual({ min: 0, max: 20, step: 0.1, start: 5 });
  });
  test("the range is the same stretch in all units where the norm is known", () => {
    expect(sliderRange("raw", 18, 140)).toEqual({ min: 0, max: 140, step: 0.1, start: 70 });
    expect(sliderRange("max", 18, 140)).toEqual({ min: 0, max: 7.78, step: 0.01, start: 3.89 });
    expect(sliderRange("max", 0, 140).max).toBe(20);
  });
  test("a strength below zero and a high recommendation widen the range", () => {
    expect(sliderRangeIncluding("norm", scale, -0.2, null)).toMatchObject({ min: -1, max: 1 });
    expect(sliderRangeIncluding("norm", scale, 0.2, 1.22)).toMatchObject({ min: 0, max: 1.22 });
    expect([
      fraction(0, { min: -1, max: 1 }),
      fraction(9, { min: 0, max: 1 }),
      fraction(1, { min: 1, max: 1 }),
    ]).toEqual([0.5, 1, 0]);
  });
});

describe("words", () => {
  test("what a condition does", () => {
    expect(describeCondition(plain, "norm")).toEqual(["as it is"]);
    const all = {
      ...gate,
      features: [...gate.features, { feature: 5, strength: -2 }],
      instruction: "Be kind.",
      edits: "Layer 3 is fixed.",
    };
    expect(describeCondition(all, "raw")).toEqual([
      "feature 3 at 0.4 raw",
      "feature 5 at \u22122 raw",
      "\u201cBe kind.\u201d",
      "Layer 3 is fixed.",
    ]);
    expect(describeCondition(gate, "norm")).toEqual(["feature 3 at 0.4 \u00d7 residual norm"]);
    expect(describeCondition(gate, "norm", { "3": " bridges " })).toEqual([
      "feature 3 (bridges) at 0.4 \u00d7 residual norm",
    ]);
    expect(formatStrengths([0.1, 0.2], "max")).toBe("0.1, 0.2 \u00d7 its maximum");
  });
  test("the metrics of a reply", () => {
    expect(replyMetrics(reply()).map(([words]) => words)).toEqual(["2 tokens"]);
    expect(
      replyMetrics(reply({ tokens: ["a"], mean_nll: 1.914, repetition: 0.19, end: "length" })).map(([words]) => words),
    ).toEqual(["nll 1.91", "repeated 19 %", "1 token, cut off"]);
    expect(replyMetrics(reply({ end: "stopped" })).at(-1)?.[0]).toBe("2 tokens, stopped");
  });
  test("probabilities", () => {
    expect([1, 0.9971, 0.68, 0.0834, 0.0009, 1e-6, 0].map(formatProbability)).toEqual([
      "100 %",
      "99.7 %",
      "68 %",
      "8.3 %",
      "0.09 %",
      "< 0.01 %",
      "0 %",
    ]);
    expect(formatNll(1.9)).toBe("1.90 nats, 15 %");
  });
  test("a run's label is short and its title is not", () => {
    const run: Run = {
      prompt: "Tell me about\nthe place where you live",
      chat: true,
      positions: "all",
      max_new_tokens: 8,
      temperature: 0,
      seed: 4,
      unit: "norm",
      conditions: [plain, gate],
      exchanges: [],
      started: "now",
    };
    expect(runLabel(run)).toBe("Tell me about the place where\u2026 \u00b7 2 conditions \u00b7 seed 4");
    expect(runLabel({ ...run, prompt: " ", conditions: [plain] })).toBe(
      "(empty prompt) \u00b7 1 condition \u00b7 seed 4",
    );
    expect(runTitle(run)).toContain(
      "gate: feature 3 at 0.4 \u00d7 residual norm\napplied to all tokens, at most 8 new tokens",
    );
    expect([truncate("abc", 3), truncate("abcdef", 3)]).toEqual(["abc", "abc\u2026"]);
  });
  test("running text keeps line breaks and joiners, and shows other invisible characters", () => {
    expect([replyToken("a\r\nb\n"), replyToken("\t"), replyToken("a\u200db"), replyToken("\u202e<b>")]).toEqual([
      "a\nb\n",
      "\t",
      "a\u200db",
      "<U+202E><b>",
    ]);
  });
});

describe("new conditions and features", () => {
  test("a condition copies the last features there are, under a name that is free", () => {
    const next = nextCondition([gate, { ...plain, name: "condition 3" }]);
    expect(next).toEqual({
      name: "condition 4",
      features: [{ feature: 3, strength: 0.4 }],
      instruction: "",
      edits: "",
    });
    expect(next.features[0]).not.toBe(gate.features[0]);
    expect(nextCondition([]).features).toEqual([]);
  });
  test("a feature is a neighbour's, else the lowest that is free", () => {
    expect([
      nextFeature([plain, gate], 0),
      nextFeature([gate], 0),
      nextFeature([{ ...gate, features: [{ feature: 0, strength: 1 }] }], 0),
    ]).toEqual([3, 0, 1]);
    expect(featuresOf([plain, gate, gate])).toEqual([3]);
  });
});

describe("the hover card", () => {
  const size = { width: 300, height: 200 };
  const bounds = { left: 6, right: 974, top: 6, bottom: 794 };
  const at = (left: number, top: number) => ({ left, right: left + 40, top, bottom: top + 20 });
  test.each([
    ["below", at(100, 100), { left: 100, top: 126 }],
    ["at the right edge", at(930, 100), { left: 674, top: 126 }],
    ["above at the lower edge", at(100, 700), { left: 100, top: 494 }],
    ["at the left edge", at(-10, 100), { left: 6, top: 126 }],
  ])("stands %s", (_, token, to) => expect(placeCard(token, size, bounds)).toEqual(to));
  test("stands beside the token in a low box, and never outside", () => {
    const low = { ...bounds, bottom: 210 };
    expect(placeCard(at(100, 100), size, low)).toEqual({ left: 146, top: 10 });
    expect(placeCard(at(900, 100), size, low)).toEqual({ left: 594, top: 10 });
    expect(placeCard(at(100, 100), size, { left: 6, right: 310, top: 6, bottom: 150 })).toEqual({ left: 10, top: 6 });
  });
  test("always lists the token that was generated", () => {
    const candidates = Array.from({ length: 12 }, (_, i): [string, number, number] => [` t${i}`, 0.1, 0.1]);
    expect(listedCandidates(candidates, " t11").map((entry) => entry.candidate[0])).toEqual([
      " t0",
      " t1",
      " t2",
      " t3",
      " t4",
      " t5",
      " t6",
      " t11",
    ]);
    expect(
      listedCandidates(candidates, " t2")
        .map((entry) => entry.written)
        .indexOf(true),
    ).toBe(2);
    expect(listedCandidates(candidates, "t3").find((entry) => entry.written)?.candidate[0]).toBe(" t3");
    expect(listedCandidates(candidates, "none").some((entry) => entry.written)).toBe(false);
  });
});

describe("colouring", () => {
  const detail: Detail = { start: int32(0, 1, 2), feature: int32(3, 5), value: float32(2, 6), choices: [] };
  const shown = (changes: Partial<DisplayedRun> = {}): DisplayedRun => ({
    id: "latest",
    names: {},
    conditions: [plain, gate],
    unit: "norm",
    writing: false,
    concept: "",
    details: [[null, detail]],
    exchanges: [{ user: "", replies: [reply({ nll: [null, 2] }), reply({ nll: [1, 9] })] }],
    ...changes,
  });
  test("by nll, on a fixed scale", () => {
    const colouring = replyColouring(shown(), "unlikely", 0);
    expect([colouring.max, colouring.note, colouring.values(0, 1)]).toEqual([8, "", [1, 9]]);
    expect(
      replyColouring(shown({ writing: true, exchanges: [{ user: "", replies: [reply()] }] }), "unlikely", 0).note,
    ).toBe("Colours appear when the replies are finished.");
  });
  test("by a feature, up to its largest value shown, or the reason why not", () => {
    const colouring = replyColouring(shown(), "feature", 5);
    expect([
      colouring.max,
      colouring.note,
      colouring.values(0, 0),
      [...(colouring.values(0, 1) as Float32Array)],
    ]).toEqual([6, "", null, [0, 6]]);
    expect(replyColouring(shown(), "feature", 9).note).toBe("Feature 9 does not fire on these replies.");
    expect(replyColouring(shown({ details: null }), "feature", 5).note).toBe(
      "Only the latest run has feature activations.",
    );
    expect(replyColouring(shown({ details: [[null, null]], writing: true }), "feature", 5).note).toBe(
      "Colours appear when the replies are finished.",
    );
    expect(replyColouring(shown(), "none", 5)).toMatchObject({ max: 0, note: "" });
  });
});
