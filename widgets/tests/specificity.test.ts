import { describe, expect, test, vi } from "vitest";
import { groupAt } from "../src/specificity/contexts";
import { Curve } from "../src/specificity/curve";
import { combined } from "../src/specificity/query";
import type { MarkedContext, PanelState, Row } from "../src/specificity/state";
import panel from "../src/specificity_panel";
import { all, float32, HOSTILE, int32, mount, one, press } from "./support";

const context = (at: number, group: MarkedContext["group"], activation: number): MarkedContext => ({
  at,
  group,
  activation,
  unit: "token",
  tokens: ["a ", at === 3 ? HOSTILE : `word${at}`, " b"],
  bytes: {},
  acts: [0, activation, 0],
  centre: 1,
  document: at,
  labels: { topic: HOSTILE },
});
const row = (feature: number, p: number | null): Row => ({
  feature,
  choose: 0.99,
  average_precision: 0.9,
  average_precision_low: 0.8,
  average_precision_high: 0.95,
  precision: 0.5,
  recall: 0.25,
  n_firings: 1234,
  p_value: p,
});
const scores = {
  feature: 7,
  unit: "token" as const,
  n: 100,
  n_positive: 4,
  max: 4,
  value: float32(4, 3, 2, 1),
  n_firings: int32(1, 3, 4, 8),
  n_hits: int32(1, 2, 3, 3),
  band: {
    n: 2,
    threshold: float32(0, 2, 4),
    precision_mean: float32(0.1, 0.2, NaN),
    precision_low: float32(0, 0.1, NaN),
    precision_high: float32(0.2, 0.3, NaN),
    recall_mean: float32(0.1, 0, 0),
    recall_low: float32(0, 0, 0),
    recall_high: float32(0.2, 0, 0),
  },
};
const state = (): PanelState => ({
  query: "bridge",
  query_error: "",
  unit: "token",
  by: "average_precision",
  feature: 7,
  n_features: 64,
  threshold: 2,
  marks: [],
  n_undo: 0,
  labels: { topic: [{ shown: "cats", written: "topic:cats", n: 3 }] },
  corpus: { name: "tiny", n_tokens: 1000, n_documents: 40 },
  preview: {
    concept: "bridge",
    unit: "token",
    n_tokens: 1,
    n_documents: 1,
    nothing: "",
    snippets: [{ document: 1, tokens: ["a ", "bri", "dge", HOSTILE], of: [false, true, true, false], labels: {} }],
  },
  rows: [row(7, 0.005), row(9, 1), row(11, null)],
  ranking: { by: "average_precision", tested: true, n_features: 60, n_permutations: 199, documents: "chosen on half" },
  names: { "7": "bridges", "9": HOSTILE },
  scores,
  contexts: [
    context(1, "false alarm", 3),
    context(2, "false alarm", 1),
    context(3, "hit", 1),
    context(4, "hit", 3),
    context(5, "miss", 0),
  ],
  measures: {},
  status: "",
  progress: -1,
  running: false,
  error: "",
  live: true,
  refused: "",
});

describe("along the threshold", () => {
  const curve = new Curve(scores);
  test("precision and recall count what fires at and above it", () => {
    expect(curve.at(3)).toMatchObject({ n: 3, hits: 2, precision: 2 / 3, recall: 0.5 });
    expect(curve.at(3.0001)).toMatchObject({ n: 1, hits: 1 });
    expect(curve.at(0)).toMatchObject({ n: 8, hits: 3, f1: 0.5 });
    expect(curve.at(9)).toMatchObject({ n: 0, hits: 0, precision: Number.NaN, recall: 0 });
  });
  test("activations that are no round numbers in 32 bits are reached by themselves", () => {
    const fine = new Curve({ ...scores, value: float32(0.3, 0.1), n_firings: int32(1, 2), n_hits: int32(1, 1) });
    expect([fine.at(0.3).n, fine.at(0.1).n, fine.at(0.10001).n]).toEqual([1, 2, 1]);
  });
  test("bins hold what is above their lower edge and up to their upper one", () => {
    expect(curve.bins(4).map(({ n, hits }) => [n, hits])).toEqual([
      [4, 0],
      [1, 1],
      [2, 1],
      [1, 1],
    ]);
    expect(curve.bins(10).reduce((sum, bin) => sum + bin.n, 0)).toBe(8);
    expect(new Curve({}).at(0)).toMatchObject({ n: 0, precision: Number.NaN, recall: Number.NaN });
  });
  test("a context is a false alarm, a hit, a miss or rightly silent", () => {
    const groups = state().contexts.map((c) => groupAt(c, 2));
    expect(groups).toEqual(["alarm", null, "miss", "hit", "miss"]);
    expect(state().contexts.map((c) => groupAt(c, 0))).toEqual(["alarm", "alarm", "hit", "hit", "miss"]);
  });
});

describe("SpecificityPanel", () => {
  test("a label is added so that it binds the whole concept", () => {
    expect(combined("", "topic:a", "and not")).toBe("not topic:a");
    expect(combined("a or b", "topic:a", "and")).toBe("(a or b) and topic:a");
    expect(combined("(a OR b) and c", "topic:a", "and not")).toBe("((a OR b) and c) and not topic:a");
    expect(combined("order", "topic:a", "and")).toBe("order and topic:a");
    expect(combined("a or b", "topic:a", "or")).toBe("a or b or topic:a");
  });
  test("typing waits for a pause, Enter does not, and an error stands beside the field", () => {
    vi.useFakeTimers();
    const { el, model } = mount(panel, state());
    const text = one<HTMLTextAreaElement>(el, "textarea");
    for (const words of ["f", "fo", "fog"]) {
      text.value = words;
      text.dispatchEvent(new Event("input"));
    }
    expect(model.get("query")).toBe("bridge");
    vi.advanceTimersByTime(200);
    expect([model.get("query"), model.saved]).toEqual(["fog", 1]);
    text.value = "bay";
    text.dispatchEvent(new Event("input"));
    press(text, "Enter");
    expect([model.get("query"), model.saved]).toEqual(["bay", 2]);
    vi.useRealTimers();
    model.set("query_error", `a ( without its ) ${HOSTILE}`);
    expect(one(el, ".sk-query-error").textContent).toContain(HOSTILE);
    expect(text.getAttribute("aria-invalid")).toBe("true");
    expect(text.getAttribute("aria-describedby")).toBe(one(el, ".sk-query-error").id);
  });
  test("everything from outside stays text", () => {
    const { el } = mount(panel, state());
    expect(el.querySelector("img")).toBeNull();
    expect(one(el, ".sk-snippets mark").textContent).toBe("bridge");
  });
  test("rows say p with no more than the shufflings allow, and are picked by click and arrows", () => {
    const { el, model } = mount(panel, state());
    expect(all(el, ".sk-ranking tbody .sk-p").map((p) => p.textContent)).toEqual(["\u2264 0.005", "1.000", "\u2013"]);
    one(el, "tr[data-feature='9'] td").click();
    expect(model.get("feature")).toBe(9);
    const buttons = all(el, ".sk-ranking tbody button");
    expect(buttons.filter((b) => b.tabIndex === 0)).toEqual([buttons[1]]);
    buttons[1]?.focus();
    press(buttons[1] as Element, "ArrowDown");
    expect([model.get("feature"), document.activeElement]).toEqual([11, buttons[2]]);
    model.set("ranking", { ...state().ranking, tested: false });
    expect(one(el, ".sk-ranking tbody .sk-p").textContent).toBe("\u2026");
    model.set("rows", []);
    expect(one(el, "section[aria-label=Ranking]").textContent).toContain("No feature fires often enough");
  });
  test("the slider moves by keys and says what it gives; Python hears of it at the end", () => {
    const { el, model } = mount(panel, state());
    const slider = one(el, "[role=slider]");
    expect(slider.getAttribute("aria-valuetext")).toBe(
      "activation 2: precision 0.75, recall 0.75, 4 tokens of which 3 on the concept",
    );
    press(slider, "Home");
    expect([slider.getAttribute("aria-valuenow"), model.get("threshold")]).toEqual(["0", 0]);
    press(slider, "ArrowRight");
    expect(model.get("threshold")).toBeCloseTo(0.04);
    press(slider, "PageUp");
    expect(model.get("threshold")).toBeCloseTo(0.44);
    press(slider, "End");
    expect(model.get("threshold")).toBe(4);
    expect(one(el, ".sk-tabs small").textContent).toBe("0");
    expect(model.sent).toEqual([]);
  });
  test("contexts are marked with keys: the mark shows at once and the next one is there", () => {
    const { el, model } = mount(panel, { ...state(), threshold: 0 });
    const rows = all(el, ".sk-context");
    expect(rows.length).toBe(2);
    expect(all(el, "[role=tab]").map((t) => t.textContent)).toEqual(["False alarms 5", "Misses 1", "Hits 3"]);
    rows[0]?.focus();
    press(rows[0] as Element, "c");
    expect(document.activeElement).toBe(rows[1]);
    press(rows[1] as Element, "x");
    expect(rows.map((r) => r.dataset.mark)).toEqual(["counts", "not"]);
    expect(model.sent).toEqual([
      { kind: "mark", at: 1, unit: "token", counts: true },
      { kind: "mark", at: 2, unit: "token", counts: false },
    ]);
    model.set("marks", [{ at: 1, unit: "token", counts: true }]); // Python is one behind
    expect(rows.map((r) => r.dataset.mark)).toEqual(["counts", "not"]);
    model.set("marks", [
      { at: 1, unit: "token", counts: true },
      { at: 2, unit: "token", counts: false },
    ]);
    model.set("marks", []); // taken back in Python
    expect(rows.map((r) => r.dataset.mark)).toEqual(["", ""]);
    press(rows[1] as Element, "k");
    expect(document.activeElement).toBe(rows[0]);
    press(rows[0] as Element, "u");
    press(rows[0] as Element, "z");
    press(rows[0] as Element, "r");
    expect(model.sent.slice(2)).toEqual([
      { kind: "mark", at: 1, unit: "token", counts: null },
      { kind: "undo" },
      { kind: "contexts" },
    ]);
    expect(rows.filter((r) => r.tabIndex === 0)).toEqual([rows[0]]);
  });
  test("a refused mark is taken off again", () => {
    const { el, model } = mount(panel, { ...state(), threshold: 0 });
    const first = one(el, ".sk-context");
    press(first, "c");
    model.set("refused", "no token of a document stands there");
    expect(first.dataset.mark).toBe("");
  });
  test("a tab without contexts is not the first that is shown", () => {
    const { el } = mount(panel, { ...state(), contexts: [context(5, "miss", 0)] });
    expect(one(el, "[aria-selected=true]").textContent).toContain("Misses");
  });
  test("the band is drawn, and a silent feature has words in place of a chart", () => {
    const { el, model } = mount(panel, state());
    expect(all(el, ".sk-band-0, .sk-band-1").length).toBe(2);
    expect(one(el, ".sk-legend").textContent).toContain("2 matched features");
    expect(el.querySelector("svg")?.outerHTML).not.toContain("NaN");
    model.set("scores", { feature: 8, n: 10, n_positive: 0, max: 0, band: { n: 0 } });
    expect(one(el, ".sk-readout").textContent).toBe("The feature does not fire on these documents.");
    expect(one(el, "[role=slider]").hidden).toBe(true);
  });
  test("without a kernel the controls rest and the page says so", () => {
    const { el, model } = mount(panel, { ...state(), live: false });
    expect(el.textContent).toContain("need the notebook with its kernel");
    expect(one<HTMLTextAreaElement>(el, "textarea").readOnly).toBe(true);
    one(el, "tr[data-feature='9'] td").click();
    expect(model.get("feature")).toBe(7);
    press(one(el, ".sk-context"), "c");
    expect(model.sent).toEqual([]);
    press(one(el, "[role=slider]"), "Home");
    expect(one(el, "[role=slider]").getAttribute("aria-valuenow")).toBe("0");
  });
  test("what is done can be stopped and begun again", () => {
    const { el, model } = mount(panel, { ...state(), running: true, status: "Ranking", progress: 0.5 });
    const stop = all(el, "button").find((b) => b.textContent === "Stop") as HTMLElement;
    stop.click();
    model.set("running", false);
    model.set("status", "Stopped.");
    expect(stop.textContent).toBe("Run again");
    stop.click();
    expect(model.sent).toEqual([{ kind: "stop" }, { kind: "run" }]);
  });
});
