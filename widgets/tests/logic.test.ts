import { describe, expect, test } from "vitest";
import { SparseActivations, toFloat32, toInt32, toStrings } from "../src/shared/arrays";
import {
  formatAligned,
  formatBinEdge,
  formatCompact,
  formatDuration,
  formatNumber,
  formatPercent,
  formatTick,
} from "../src/shared/numbers";
import { decodeState, OfflineModel } from "../src/shared/offline_model";
import { Columns, clampPage, nPages, type Query, selectFeatures } from "../src/shared/table";
import { countLineBreaks, textDirection, tokenLabel, tokenSpeech, tokenText } from "../src/shared/tokens";
import cases from "./cases.json";
import { float32, int32, texts } from "./support";

describe("arrays", () => {
  test("a view into the middle of a buffer is read from where it starts", () => {
    const bytes = new Uint8Array(13);
    bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 3);
    expect([...toFloat32(new DataView(bytes.buffer, 3, 8))]).toEqual([1.5, -2]);
    expect([...toInt32(null)]).toEqual([]);
  });
  test("strings keep empty ones", () => {
    expect(toStrings(texts("a", "", "ü"))).toEqual(["a", "", "ü"]);
    expect(toStrings(undefined)).toEqual([]);
  });
  test("sparse rows equal a dense table", () => {
    const rows = SparseActivations.from({
      start: int32(0, 0, 1, 3),
      feature: int32(5, 3, 7),
      value: float32(0.5, 2, 4),
    });
    expect(rows.length).toBe(3);
    expect([...rows.activationsOf(null)]).toEqual([0, 0.5, 4]);
    expect([...rows.activationsOf(3)]).toEqual([0, 0, 2]);
    expect(rows.topFeatures(2, 1)).toEqual([{ feature: 7, value: 4 }]);
    expect(rows.topFeatures(0, 5)).toEqual([]);
  });
});

describe("text", () => {
  test.each([
    ["\n", "↵"],
    ["\r\n", "↵"],
    ["\ta", "⇥a"],
    ["a\u202eb", "a<U+202E>b"],
    ["\u0000", "<U+0000>"],
    ["<img>", "<img>"],
    ["<0xE2>", "<0xE2>"],
  ])("glyphs of %j", (token, shown) => expect(tokenText(token)).toBe(shown));
  test("spaces are seen when a token stands alone", () => {
    expect(tokenLabel(" a")).toBe("␣a");
    expect(tokenLabel("")).toBe("(empty)");
  });
  test("spoken tokens name what is not heard", () => {
    expect([tokenSpeech(" "), tokenSpeech("\n"), tokenSpeech(" Gate"), tokenSpeech("")]).toEqual([
      "space",
      "line break",
      "Gate",
      "empty token",
    ]);
  });
  test("line breaks are counted", () =>
    expect([countLineBreaks("a"), countLineBreaks("\n\n"), countLineBreaks("\r\n")]).toEqual([0, 2, 1]));
  test("direction goes by the majority of letters", () => {
    expect(textDirection(["ok", "שלום עולם"])).toBe("rtl");
    expect(textDirection(["<|im_start|>user", " שלום"])).toBe("ltr");
    expect(textDirection([])).toBe("ltr");
  });
  test("numbers", () => {
    expect([0, 4, 0.01234, -1.5, 12345, 1e-6, NaN, null].map(formatNumber)).toEqual([
      "0",
      "4",
      "0.0123",
      "−1.5",
      "12,345",
      "1.0e−6",
      "–",
      "–",
    ]);
    expect([4, 0.24, 12.34, 137.2].map(formatAligned)).toEqual(["4.00", "0.240", "12.3", "137"]);
    expect([formatPercent(0.12345), formatPercent(0), formatPercent(1)]).toEqual(["12.3 %", "0", "100 %"]);
    expect([formatBinEdge(1.548, 0.172), formatBinEdge(7.22, 0.722), formatBinEdge(130, 13)]).toEqual([
      "1.55",
      "7.22",
      "130",
    ]);
  });
  test("ticks, counts and times are short", () => {
    expect([
      formatTick(0, 1),
      formatTick(0.25, 0.25),
      formatTick(4e-4, 1e-4),
      formatTick(2.5e-5, 5e-6),
      formatTick(200_000, 1e5),
      formatTick(2000, 500),
    ]).toEqual(["0", "0.25", "4e\u22124", "2.5e\u22125", "200k", "2000"]);
    expect([formatTick(0.025, 0.005, true), formatTick(-0.2, 0.1)]).toEqual(["2.5 %", "\u22120.2"]);
    expect([formatCompact(950), formatCompact(12_345), formatCompact(4.5e6), formatCompact(NaN)]).toEqual([
      "950",
      "12.3k",
      "4.5M",
      "\u2013",
    ]);
    expect([formatDuration(8), formatDuration(400), formatDuration(9000), formatDuration(Infinity)]).toEqual([
      "8 s",
      "7 min",
      "2.5 h",
      "\u2013",
    ]);
  });
});

describe("table", () => {
  const c = cases.columns;
  const columns = new Columns({
    name: texts(...c.name),
    density: float32(...c.density),
    max: float32(...c.max.map((v) => v ?? NaN)),
    n_firings: int32(...c.n_firings),
    promoted: texts(...c.promoted),
    example: texts(...c.example),
  });
  const defaults: Query = {
    sort: "density",
    descending: true,
    filter: "",
    min_density: null,
    max_density: null,
    hide_silent: false,
  };
  test.each(cases.cases)("$query", ({ query, rows }) => {
    expect([...selectFeatures(columns, { ...defaults, ...query } as Query)]).toEqual(rows);
  });
  test("65,536 features sort and filter in well under a second", () => {
    const n = 65536;
    const density = Float32Array.from({ length: n }, (_, i) => Math.abs(Math.sin(i)));
    const many = new Columns({
      density: density.buffer,
      max: density.buffer,
      n_firings: new Int32Array(n).fill(1).buffer,
      promoted: texts(...Array.from({ length: n }, (_, i) => `token${i}`)),
      example: texts(...Array.from({ length: n }, () => "some words of context")),
    });
    const start = performance.now();
    expect(selectFeatures(many, defaults).length).toBe(n);
    expect([...selectFeatures(many, { ...defaults, filter: "token65535" })]).toEqual([65535]);
    expect(performance.now() - start).toBeLessThan(1500);
  });
  test("pages", () => {
    expect([nPages(0, 10), nPages(10, 10), nPages(11, 10)]).toEqual([1, 1, 2]);
    expect([clampPage(5, 11, 10), clampPage(-1, 11, 10), clampPage(0, 0, 10)]).toEqual([1, 0, 0]);
  });
});

describe("offline model", () => {
  test("calls listeners once a change, until they are removed", () => {
    const model = new OfflineModel({ a: 1 });
    const seen: unknown[] = [];
    const callback = () => seen.push(model.get("a"));
    model.on("change:a", callback);
    model.set("a", 1);
    model.set("a", 2);
    model.off("change:a", callback);
    model.set("a", 3);
    expect(seen).toEqual([2]);
  });
  test("bytes come back wherever they are", () => {
    const state = decodeState({
      acts: { start: { $bytes: btoa("\u0001\u0000\u0000\u0000") } },
      tokens: ["$bytes"],
      n: null,
    }) as {
      acts: { start: DataView };
      tokens: string[];
    };
    expect([...toInt32(state.acts.start)]).toEqual([1]);
    expect(state.tokens).toEqual(["$bytes"]);
  });
});
