import { describe, expect, test, vi } from "vitest";
import { groupAt } from "../src/specificity/contexts";
import { Curve } from "../src/specificity/curve";
import { combined } from "../src/specificity/query";
import panel from "../src/specificity_panel";
import { context, scores, state } from "./specificity_fixtures";
import { all, float32, HOSTILE, int32, mount, one, press } from "./support";

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
