// Earlier runs as buttons, and all of them as a file.

import { button, h } from "../shared/dom";
import { runLabel, runTitle } from "./descriptions";
import type { Run } from "./state";

export interface RunHistory {
  element: HTMLElement;
  /** `selected` is the run that the columns show, -1 for the one in progress. */
  draw(runs: readonly Run[], selected: number, running: boolean): void;
  focusLast(): void;
}

export function runHistory(runs: () => readonly Run[], select: (index: number) => void): RunHistory {
  const list = h("ul");
  const save = button("Export", "sk-button sk-export", () => download(runs()));
  save.title = "Save all runs with their replies as steering-runs.json";
  const title = h("h4", {}, "Runs");
  const head = h("div", { class: "sk-history-head" }, title, save);
  const element = h("section", { class: "sk-history", "aria-label": "Runs" }, head, list);
  let drawn = "";
  const item = (label: string, index: number, hint: string) => {
    const chip = button(label, "sk-chip", () => select(index));
    chip.title = hint;
    return h("li", {}, chip);
  };
  const draw: RunHistory["draw"] = (all, selected, running) => {
    element.hidden = all.length === 0;
    title.hidden = list.hidden = all.length < 2 && !running;
    const key = JSON.stringify([all.map(runTitle), running]);
    if (key !== drawn) {
      drawn = key;
      const items = all.map((run, i) => item(runLabel(run), i, runTitle(run)));
      list.replaceChildren(...items, ...(running ? [item("in progress", -1, "")] : []));
    }
    const pressed = selected < 0 ? all.length : selected;
    for (const [i, chip] of list.querySelectorAll("button").entries()) {
      chip.setAttribute("aria-pressed", String(i === pressed));
    }
  };
  const focusLast = () => list.querySelector<HTMLElement>("li:last-child button")?.focus({ preventScroll: true });
  return { element, draw, focusLast };
}

function download(runs: readonly Run[]): void {
  const url = URL.createObjectURL(new Blob([JSON.stringify(runs, null, 1)], { type: "application/json" }));
  const link = h("a", { href: url, download: "steering-runs.json" });
  document.body.append(link); // some browsers ignore a link that is not in the page
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
