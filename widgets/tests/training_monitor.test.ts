import { afterEach, describe, expect, test, vi } from "vitest";
import { formatValue, progressText } from "../src/monitor/curves";
import type { MonitorState } from "../src/monitor/state";
import monitor from "../src/training_monitor";
import { all, float32, float64, HOSTILE, int32, mount, one, press } from "./support";

describe("TrainingMonitor", () => {
  afterEach(() => vi.useRealTimers());
  const empty: MonitorState = {
    status: "waiting",
    message: "",
    names: [],
    step: 0,
    n_steps: 0,
    n_tokens: 0,
    total_tokens: 0,
    rate: 0,
    seconds: 0,
    columns: {},
    densities: [],
    live: true,
    refused: "",
    picture_id: "",
  };
  /** Two SAEs, steps 10, 20, 30; loss 3 2 1 and 6 4 2; l0 4 and 8; the same rate and learning rate. */
  const state = (changes: Partial<MonitorState> = {}, loss = [3, 2, 1, 6, 4, 2]): MonitorState => ({
    ...empty,
    status: "running",
    names: ["topk, k 4", HOSTILE],
    step: 30,
    n_steps: 100,
    n_tokens: 3000,
    total_tokens: 10_000,
    rate: 50,
    seconds: 60,
    columns: {
      step: int32(10, 20, 30),
      n_tokens: float64(1000, 2000, 3000),
      loss: float32(...loss),
      explained_variance: float32(0.1, 0.2, 0.3, 0.2, 0.3, 0.45),
      l0: float32(4, 4, 4, 8, 8, 8),
      dead_fraction: float32(0, 0, 0, 0, 0.01, 0.02),
      tokens_per_second: float32(50, 50, 50, 50, 50, 50),
      lr: float32(1e-4, 2e-4, 1e-4, 1e-4, 2e-4, 1e-4),
    },
    densities: [
      { low: -2, counts: [0, 1, 2, 3, 0, 0, 0, 1], never: 3 },
      { low: -1, counts: [5, 0, 0, 5], never: 0 },
    ],
    ...changes,
  });
  const plot = (el: Element, i: number) => all(el, ".sk-plot")[i] as HTMLElement;
  const cells = (el: Element, row: number) =>
    all(all(el, "tbody tr")[row] as Element, "th, td").map((c) => c.textContent);

  test("values that are not numbers are written as such", () => {
    expect([
      formatValue(NaN, String),
      formatValue(Infinity, String),
      formatValue(-Infinity, String),
      formatValue(undefined, String),
      formatValue(2, String),
    ]).toEqual(["NaN", "\u221e", "\u2212\u221e", "\u2013", "2"]);
  });
  test("waiting shows what to do and nothing else", () => {
    const { el } = mount(monitor, empty);
    expect(one(el, ".sk-empty").textContent).toContain("Pass this monitor to sk.train(\u2026, loggers=[monitor]).");
    expect([one(el, ".sk-charts").hidden, one(el, ".sk-values").hidden, one(el, "progress").hidden]).toEqual([
      true,
      true,
      true,
    ]);
  });
  test("a run that has begun but logged nothing says so", () => {
    const { el } = mount(monitor, { ...empty, status: "running", names: ["a"], n_steps: 9, total_tokens: 90 });
    expect(one(el, ".sk-empty").textContent).toContain("first logged step");
    expect(one(el, ".sk-progress-words").textContent).toBe("step 0 of 9 \u00b7 0 of 90 tokens");
  });
  test("progress, last values and a chart for each metric", () => {
    const { el } = mount(monitor, state());
    expect(one<HTMLProgressElement>(el, "progress").value).toBeCloseTo(0.3);
    expect(one(el, ".sk-progress-words").textContent).toBe(
      "step 30 of 100 \u00b7 3k of 10k tokens \u00b7 50 tokens/s \u00b7 about 2 min left",
    );
    expect(one(el, "caption").textContent).toBe("Last values, step 30, 3k tokens");
    expect(cells(el, 0)).toEqual(["topk, k 4", "1.00", "0.300", "4", "0", "50", "1e\u22124"]);
    expect(cells(el, 1).slice(1)).toEqual(["2.00", "0.450", "8", "2 %", "50", "1e\u22124"]);
    expect(all(el, "h4").map((h) => h.textContent)).toEqual([
      "Loss",
      "Explained variance",
      "Active features per token (L0)",
      "Dead features",
      "Tokens per second",
      "Learning rate",
      "Activation density",
    ]);
    expect(all(el, ".sk-chart").map((c) => c.querySelectorAll("path").length)).toEqual([2, 2, 2, 2, 1, 1, 2]);
    expect(el.querySelector("img")).toBeNull();
  });
  test("lines differ in colour, and values that all SAEs share are one line", () => {
    const { el } = mount(monitor, state());
    expect(all(plot(el, 0), "path").map((p) => p.getAttribute("style"))).toEqual([
      "stroke: var(--sk-orange)",
      "stroke: var(--sk-blue)",
    ]);
    expect(all(el, ".sk-chart-note").map((n) => n.textContent)).toEqual([
      "",
      "",
      "",
      "",
      "the same for all SAEs",
      "the same for all SAEs",
      "number of features, 3 / 0 never fired",
    ]);
    const { el: many } = mount(
      monitor,
      state({
        names: ["a", "b", "c", "d"],
        columns: { step: int32(1, 2), n_tokens: float64(1, 2), loss: float32(1, 2, 2, 3, 3, 4, 4, 5) },
      }),
    );
    expect(all(plot(many, 0), "path").map((p) => p.getAttribute("stroke-dasharray"))).toEqual([
      "none",
      "none",
      "none",
      "7 3",
    ]);
  });
  test("a gap where a value is not finite, a dot for a single value, and a note", () => {
    const { el } = mount(monitor, state({ names: ["a"] }, [3, NaN, 1]));
    expect(plot(el, 0).querySelectorAll("path").length).toBe(0);
    expect(plot(el, 0).querySelectorAll(".sk-dot").length).toBe(2);
    expect(all(el, ".sk-chart-note")[0]?.textContent).toBe("1 not finite");
    const { el: last } = mount(monitor, state({ names: ["a"] }, [3, 2, Infinity]));
    expect(plot(last, 0).querySelectorAll("path").length).toBe(1);
    expect(cells(last, 0)[1]).toBe("\u221e");
  });
  test("one point is a dot", () => {
    const { el } = mount(
      monitor,
      state({ names: ["a"], columns: { step: int32(1), n_tokens: float64(100), loss: float32(2) } }),
    );
    expect(plot(el, 0).querySelectorAll(".sk-dot").length).toBe(1);
    expect(one(el, "caption").textContent).toBe("Last values, step 1, 100 tokens");
  });
  test("a loss that spans decades is drawn on a logarithmic axis", () => {
    const { el } = mount(monitor, state({ names: ["a"] }, [3000, 30, 3]));
    expect(all(el, ".sk-chart-note")[0]?.textContent).toBe("log scale");
    expect(all(plot(el, 0), "text").map((t) => t.textContent)).toContain("100");
  });
  test("arrow keys walk the points of all charts at once; Escape goes back to the last", () => {
    const { el } = mount(monitor, state());
    const first = plot(el, 0);
    expect(
      all(el, ".sk-plot").every(
        (p) => p.tabIndex === 0 && p.getAttribute("role") === "slider" && p.hasAttribute("data-lm-suppress-shortcuts"),
      ),
    ).toBe(true);
    expect(first.getAttribute("aria-label")).toBe("Loss: by tokens seen");
    expect(first.getAttribute("aria-valuetext")).toBe(`topk, k 4: 1.00; ${HOSTILE}: 2.00, step 30, 3k tokens`);
    press(first, "ArrowLeft");
    expect(one(el, "caption").textContent).toBe("At step 20, 2k tokens");
    expect(cells(el, 0)[1]).toBe("2.00");
    expect([first.getAttribute("aria-valuenow"), first.getAttribute("aria-valuemax")]).toEqual(["2", "3"]);
    expect(all(el, ".sk-cursor").map((c) => c.querySelectorAll("circle").length)).toEqual([2, 2, 2, 2, 1, 1, 0]);
    expect(one(first, ".sk-tooltip").textContent).toBe("2.004.00step 20, 2k tokens");
    expect(all(el, ".sk-tooltip").map((t) => t.hidden)).toEqual([false, true, true, true, true, true, true]);
    press(first, "Home");
    expect(one(el, "caption").textContent).toBe("At step 10, 1k tokens");
    press(first, "ArrowLeft");
    expect(first.getAttribute("aria-valuenow")).toBe("1");
    press(first, "Escape");
    expect(one(el, "caption").textContent).toBe("Last values, step 30, 3k tokens");
    const bubbled = vi.fn();
    document.body.addEventListener("keydown", bubbled);
    press(first, "End");
    expect(bubbled).not.toHaveBeenCalled();
    press(first, "b");
    expect(bubbled).toHaveBeenCalledOnce();
  });
  test("the pointer selects the nearest point until it leaves", () => {
    const { el } = mount(monitor, state());
    const move = (x: number, kind = "pointermove") =>
      plot(el, 1).dispatchEvent(new MouseEvent(kind, { clientX: x, bubbles: true }));
    move(0);
    expect(one(el, "caption").textContent).toBe("At step 10, 1k tokens");
    move(5000);
    expect(one(el, "caption").textContent).toBe("At step 30, 3k tokens");
    move(0, "pointerleave");
    expect(one(el, "caption").textContent).toBe("Last values, step 30, 3k tokens");
  });
  test("the density's bins can be read one by one", () => {
    const { el } = mount(monitor, state());
    const density = plot(el, 6);
    expect(density.getAttribute("aria-label")).toBe(
      "Activation density: number of features by the fraction of tokens on which they fire",
    );
    press(density, "ArrowLeft");
    press(density, "Home");
    expect(density.getAttribute("aria-valuetext")).toBe(
      `topk, k 4: 0 features; ${HOSTILE}: 0 features, 1 % to 1.78 % of tokens`,
    );
    for (let i = 0; i < 4; i++) press(density, "ArrowRight");
    expect(one(density, ".sk-tooltip").textContent).toBe("0 features5 features10 % to 17.8 % of tokens");
    expect(one(el, "caption").textContent).toContain("Last values");
  });
  test("outlines leave out what is empty", () => {
    const { el } = mount(monitor, state());
    expect(plot(el, 6).querySelectorAll("path")[1]?.getAttribute("d")?.match(/M/g)?.length).toBe(2);
  });
  test("one SAE's density is bars; none is no chart", () => {
    const { el, model } = mount(
      monitor,
      state({ names: ["a"], densities: [{ low: -1, counts: [1, 0, 2, 3], never: 0 }] }),
    );
    expect(plot(el, 6).querySelectorAll(".sk-bar").length).toBe(3);
    model.set("densities", [{}]);
    expect(one(el, ".sk-density").hidden).toBe(true);
  });
  test("new values arrive while a point is being read", () => {
    const { el, model } = mount(monitor, state({ names: ["a"] }, [3, 2, 1]));
    press(plot(el, 0), "Home");
    model.set("columns", {
      step: int32(10, 20, 30, 40),
      n_tokens: float64(1000, 2000, 3000, 4000),
      loss: float32(3, 2, 1, 0.5),
    });
    expect(one(el, "caption").textContent).toBe("At step 10, 1k tokens");
    expect(plot(el, 0).getAttribute("aria-valuemax")).toBe("4");
    model.set("columns", { step: int32(), n_tokens: float64(), loss: float32() });
    expect(one(el, ".sk-charts").hidden).toBe(true);
  });
  test("every status is shown, a failure with its reason as text", () => {
    const { el, model } = mount(monitor, state());
    for (const status of ["interrupted", "finished", "failed"]) {
      model.set("status", status);
      expect([
        one(el, "[role=status]").textContent,
        one(el, ".sk-progress-words").textContent?.includes("left"),
      ]).toEqual([status, false]);
    }
    expect(one(el, "[role=alert]").hidden).toBe(true);
    model.set("message", `DataError: ${HOSTILE}`);
    expect(one(el, "[role=alert]").textContent).toBe(`DataError: ${HOSTILE}`);
    expect(el.querySelector("img")).toBeNull();
  });
  test("a notice after a time without updates, until the next", () => {
    vi.useFakeTimers();
    const { el, model, controller } = mount(monitor, state());
    expect(one(el, ".sk-stale").hidden).toBe(true);
    vi.advanceTimersByTime(50_000);
    expect(one(el, ".sk-stale").textContent).toBe(
      "No update for 50 s: a step takes long, or the kernel has stopped. The last known values are shown below.",
    );
    model.set("step", 31);
    expect(one(el, ".sk-stale").hidden).toBe(true);
    model.set("status", "finished");
    vi.advanceTimersByTime(50_000);
    expect(one(el, ".sk-stale").hidden).toBe(true);
    controller.abort();
    expect(vi.getTimerCount()).toBe(0);
  });
  test("an offline page says that the run had not finished", () => {
    const { el } = mount(monitor, state({ live: false }));
    expect(one(el, ".sk-stale").textContent).toBe("The run had not finished when this page was saved.");
    expect(progressText(state({ status: "" }))).toContain("60 s of training");
    expect(one(el, ".sk-progress-words").textContent).not.toContain("left");
  });
  test("a closed view no longer listens", () => {
    const { el, model, controller } = mount(monitor, state());
    controller.abort();
    model.set("status", "finished");
    expect(one(el, "[role=status]").textContent).toBe("running");
  });
});
