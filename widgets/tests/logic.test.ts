import { describe, expect, test } from "vitest";
import { f32, i32, SparseRows, strings } from "../src/shared/arrays";
import { decades, ticks } from "../src/shared/histogram";
import { decode, HostModel } from "../src/shared/host";
import { Columns, clampPage, nPages, type Query, select } from "../src/shared/table";
import { alone, column, direction, edge, glyphs, lineBreaks, number, share, spoken } from "../src/shared/text";
import cases from "./cases.json";
import { float32, int32, texts } from "./support";

describe("arrays", () => {
  test("a view into the middle of a buffer is read from where it starts", () => {
    const bytes = new Uint8Array(13);
    bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 3);
    expect([...f32(new DataView(bytes.buffer, 3, 8))]).toEqual([1.5, -2]);
    expect([...i32(null)]).toEqual([]);
  });
  test("strings keep empty ones", () => {
    expect(strings(texts("a", "", "ü"))).toEqual(["a", "", "ü"]);
    expect(strings(undefined)).toEqual([]);
  });
  test("sparse rows equal a dense table", () => {
    const rows = SparseRows.from({ start: int32(0, 0, 1, 3), feature: int32(5, 3, 7), value: float32(0.5, 2, 4) });
    expect(rows.length).toBe(3);
    expect([...rows.column(null)]).toEqual([0, 0.5, 4]);
    expect([...rows.column(3)]).toEqual([0, 0, 2]);
    expect(rows.strongest(2, 1)).toEqual([{ feature: 7, value: 4 }]);
    expect(rows.strongest(0, 5)).toEqual([]);
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
  ])("glyphs of %j", (token, shown) => expect(glyphs(token)).toBe(shown));
  test("spaces are seen when a token stands alone", () => {
    expect(alone(" a")).toBe("␣a");
    expect(alone("")).toBe("(empty)");
  });
  test("spoken tokens have words for what is not heard", () => {
    expect([spoken(" "), spoken("\n"), spoken(" Gate"), spoken("")]).toEqual([
      "space",
      "line break",
      "Gate",
      "empty token",
    ]);
  });
  test("line breaks are counted", () =>
    expect([lineBreaks("a"), lineBreaks("\n\n"), lineBreaks("\r\n")]).toEqual([0, 2, 1]));
  test("direction goes by the majority of letters", () => {
    expect(direction(["ok", "שלום עולם"])).toBe("rtl");
    expect(direction(["<|im_start|>user", " שלום"])).toBe("ltr");
    expect(direction([])).toBe("ltr");
  });
  test("numbers", () => {
    expect([0, 4, 0.01234, -1.5, 12345, 1e-6, NaN, null].map(number)).toEqual([
      "0",
      "4",
      "0.0123",
      "−1.5",
      "12,345",
      "1.0e−6",
      "–",
      "–",
    ]);
    expect([4, 0.24, 12.34, 137.2].map(column)).toEqual(["4.00", "0.240", "12.3", "137"]);
    expect([share(0.12345), share(0), share(1)]).toEqual(["12.3 %", "0", "100 %"]);
    expect([edge(1.548, 0.172), edge(7.22, 0.722), edge(130, 13)]).toEqual(["1.55", "7.22", "130"]);
  });
});

describe("table", () => {
  const c = cases.columns;
  const columns = new Columns({
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
    hide_dead: false,
  };
  test.each(cases.cases)("$query", ({ query, rows }) => {
    expect([...select(columns, { ...defaults, ...query } as Query)]).toEqual(rows);
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
    expect(select(many, defaults).length).toBe(n);
    expect([...select(many, { ...defaults, filter: "token65535" })]).toEqual([65535]);
    expect(performance.now() - start).toBeLessThan(1500);
  });
  test("pages", () => {
    expect([nPages(0, 10), nPages(10, 10), nPages(11, 10)]).toEqual([1, 1, 2]);
    expect([clampPage(5, 11, 10), clampPage(-1, 11, 10), clampPage(0, 0, 10)]).toEqual([1, 0, 0]);
  });
});

describe("figures", () => {
  test("ticks are round and reach no further than the data", () => {
    expect(ticks(1.72)).toEqual([0, 0.5, 1, 1.5]);
    expect(ticks(0)).toEqual([0]);
    expect(decades(2)).toEqual([1, 2]);
    expect(decades(120_000)).toEqual([1, 10, 100, 1000, 10_000, 100_000]);
    expect(decades(1e9).length).toBeLessThanOrEqual(6);
  });
});

describe("host model", () => {
  test("tells listeners of changes, once, until they leave", () => {
    const model = new HostModel({ a: 1 });
    const seen: unknown[] = [];
    const act = () => seen.push(model.get("a"));
    model.on("change:a", act);
    model.set("a", 1);
    model.set("a", 2);
    model.off("change:a", act);
    model.set("a", 3);
    expect(seen).toEqual([2]);
  });
  test("bytes come back wherever they are", () => {
    const state = decode({
      acts: { start: { $bytes: btoa("\u0001\u0000\u0000\u0000") } },
      tokens: ["$bytes"],
      n: null,
    }) as {
      acts: { start: DataView };
      tokens: string[];
    };
    expect([...i32(state.acts.start)]).toEqual([1]);
    expect(state.tokens).toEqual(["$bytes"]);
  });
});
