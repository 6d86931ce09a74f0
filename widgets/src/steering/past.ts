// Earlier runs as chips, and all of them as a file.

import { button, h } from "../shared/dom";
import type { Run } from "./state";
import { runLabel, runTitle } from "./units";

export interface PastView {
  element: HTMLElement;
  draw(runs: readonly Run[], shown: number, writing: boolean): void;
}

/** `shown` is the run that stands in the columns, -1 for the one being written; `pick` is called with another. */
export function pastView(runs: () => readonly Run[], pick: (index: number) => void): PastView {
  const list = h("ul");
  const save = button("Export", "sk-button sk-export", () => download(runs()));
  save.title = "Save all runs with their replies as steering-runs.json";
  const title = h("h4", {}, "Runs");
  const element = h(
    "section",
    { class: "sk-past", "aria-label": "Runs" },
    h("div", { class: "sk-past-head" }, title, save),
    list,
  );
  let drawn = "";
  const draw: PastView["draw"] = (all, shown, writing) => {
    element.hidden = all.length === 0;
    title.hidden = list.hidden = all.length < 2 && !writing;
    const wanted = JSON.stringify([all.map(runTitle), writing]);
    if (wanted !== drawn) {
      drawn = wanted;
      const chips = all.map((run, i) => {
        const press = button(runLabel(run), "sk-chip", () => pick(i));
        press.title = runTitle(run);
        return h("li", {}, press);
      });
      if (writing)
        chips.push(
          h(
            "li",
            {},
            button("being written", "sk-chip", () => pick(-1)),
          ),
        );
      list.replaceChildren(...chips);
    }
    const at = shown < 0 ? all.length : shown;
    for (const [i, press] of list.querySelectorAll("button").entries())
      press.setAttribute("aria-pressed", String(i === at));
  };
  return { element, draw };
}

function download(runs: readonly Run[]): void {
  const url = URL.createObjectURL(new Blob([JSON.stringify(runs, null, 1)], { type: "application/json" }));
  const link = h("a", { href: url, download: "steering-runs.json" });
  document.body.append(link); // some browsers ignore a link that is not in the page
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
