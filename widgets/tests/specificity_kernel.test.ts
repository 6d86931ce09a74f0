import { expect, test, vi } from "vitest";
import { BUSY, GONE } from "../src/shared/kernel";
import panel from "../src/specificity_panel";
import { state } from "./specificity_fixtures";
import { all, mount, one, press } from "./support";

test("a kernel that is silent is said to be busy within two seconds, whatever was asked, and no mark is lost", () => {
  vi.useFakeTimers();
  const asks: ((el: HTMLElement) => void)[] = [
    (el) => one(el, "tr[data-feature='9'] td").click(),
    (el) => press(one(el, ".sk-context"), "c"),
    (el) => press(one(el, ".sk-context"), "z"),
    (el) => {
      one<HTMLSelectElement>(el, ".sk-query select").value = "document";
      one(el, ".sk-query select").dispatchEvent(new Event("change"));
    },
    (el) => {
      one<HTMLTextAreaElement>(el, "textarea").value = "fog";
      press(one(el, "textarea"), "Enter");
    },
    (el) =>
      all(el, "button")
        .find((b) => b.textContent === "Stop")
        ?.click(),
  ];
  for (const ask of asks) {
    const { el, model, controller } = mount(panel, { ...state(), threshold: 0, running: true });
    const line = one(el, ".sk-kernel");
    const send = vi.spyOn(model, "send").mockImplementation(() => {});
    ask(el);
    expect(line.hidden).toBe(true);
    vi.advanceTimersByTime(2000);
    expect([line.hidden, line.textContent]).toEqual([false, BUSY]);
    const rows = all(el, ".sk-context");
    for (const row of rows) press(row, "x");
    const kinds = send.mock.calls.map(([content]) => (content as { kind: string }).kind);
    expect(kinds.filter((kind) => kind === "mark").length).toBeGreaterThanOrEqual(rows.length);
    controller.abort();
  }
  vi.useRealTimers();
});

test("a kernel that is gone is said so at once, and nothing seems marked", () => {
  const { el, model, controller } = mount(panel, { ...state(), threshold: 0 });
  vi.spyOn(model, "send").mockImplementation(() => {
    throw new Error("Cannot send");
  });
  press(one(el, ".sk-context"), "c");
  expect([one(el, ".sk-kernel").textContent, one(el, ".sk-context").dataset.mark]).toEqual([GONE, ""]);
  controller.abort();
});
