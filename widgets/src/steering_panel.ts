// Replies to one prompt side by side, each under a condition. Python writes; this shows, and says what to run and when to stop.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./steering_panel.css";
import { button, h, QUIET } from "./shared/dom";
import { listen } from "./shared/model";
import { Boxes } from "./steering/boxes";
import { colouring, colourLine } from "./steering/colour";
import { conditionsView } from "./steering/conditions";
import { formView } from "./steering/form";
import { hoverOver } from "./steering/hover";
import { pastView } from "./steering/past";
import { repliesView, type Shown } from "./steering/replies";
import type { SteeringState } from "./steering/state";
import { runTitle, settingsOf } from "./steering/units";

export type { SteeringState } from "./steering/state";
export { sliderRange } from "./steering/units";

const OFFLINE = "The replies below were written in a notebook, where the controls work.";

function render({ model, el, signal }: RenderProps<SteeringState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-steering");
  let picked = -1; // which earlier run is shown; -1: the latest

  const boxes = new Boxes();
  const start = (message: object) => {
    picked = -1;
    model.send(message);
    drawResult();
  };
  const conditions = conditionsView(model, boxes, (feature, condition) => {
    if (!model.get("running") && model.get("live")) start({ kind: "sweep", feature, condition });
  });
  const form = formView(model, boxes, conditions, (message) => start(message));

  // The result
  const replies = repliesView();
  const colour = colourLine(model, boxes);
  const note = h("div", { class: "sk-note sk-soft" });
  const back = button("Back to the latest", "sk-quiet", () => {
    pick(-1);
    past.element.querySelector<HTMLElement>("li:last-child button")?.focus({ preventScroll: true }); // this button is gone
  });
  const nothing = h("p", { class: "sk-empty" });
  const result = h("div", { class: "sk-result" }, note, colour.element, replies.element, nothing);

  // The next turn
  const message = h("input", {
    type: "text",
    "aria-label": "Reply to all",
    placeholder: "Reply to all\u2026",
    autocomplete: "off",
    ...QUIET,
  });
  const say = () => {
    if (model.get("running") || message.value.trim() === "") return;
    start({ kind: "reply", message: message.value });
    message.value = "";
  };
  const send = button("Send", "sk-button sk-primary", say);
  const redo = button("Redo last turn", "sk-button", () => start({ kind: "redo" }));
  redo.title = "Answer the last message again with the seed, temperature and length set above";
  const bar = h("div", { class: "sk-reply", role: "group", "aria-label": "Next turn" }, message, send, redo);
  bar.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === message && !event.isComposing) {
      event.preventDefault();
      say();
    }
    if (event.key !== "Escape") event.stopPropagation();
  });

  const pick = (index: number) => {
    const [runs, writing] = [model.get("runs"), model.get("running")];
    picked = !writing && index === runs.length - 1 && model.get("exchanges").length > 0 ? -1 : index;
    drawResult();
  };
  const past = pastView(() => model.get("runs"), pick);
  const hover = hoverOver(el, replies, model, signal);
  el.replaceChildren(form.element, form.error, result, bar, past.element, hover.card, hover.spoken);

  const shownNow = (): Shown => {
    const concept = model.get("concept");
    const run = picked >= 0 ? model.get("runs")[picked] : undefined;
    if (run)
      return {
        id: `run ${picked}`,
        conditions: run.conditions,
        unit: run.unit,
        exchanges: run.exchanges,
        details: null,
        writing: false,
        concept,
      };
    const ran = model.get("ran");
    const exchanges = model.get("exchanges").filter((e) => e.replies.length === ran.length); // the two do not arrive together
    const conditions = exchanges.length > 0 || model.get("running") ? ran : [];
    return {
      id: "latest",
      conditions,
      unit: model.get("ran_unit"),
      exchanges,
      details: model.get("details"),
      writing: model.get("running"),
      concept,
    };
  };
  const drawReplies = () => {
    replies.draw(shownNow());
    hover.refresh();
  };
  const drawColours = () => {
    const shown = shownNow();
    const how = colouring(shown, model.get("colour_by"), model.get("colour_feature"));
    colour.element.hidden = shown.conditions.length === 0;
    colour.draw(shown, how);
    replies.colour(how.values, how.top);
    hover.refresh();
  };
  const drawNote = () => {
    const [runs, live, running] = [model.get("runs"), model.get("live"), model.get("running")];
    const empty = model.get("exchanges").length === 0;
    const run = picked >= 0 ? runs[picked] : undefined;
    const asked = run ?? (live || empty ? undefined : runs.at(-1));
    const words = asked
      ? h("span", { title: runTitle(asked) }, h("q", {}, asked.prompt), ` \u00b7 ${settingsOf(asked)}`)
      : null;
    const lines = [
      live || empty ? null : h("p", {}, OFFLINE),
      words && h("p", {}, run ? "An earlier run: " : "", words, " ", run && back),
    ];
    note.replaceChildren(...lines.filter((line) => line !== null));
    note.hidden = !note.firstChild;
    nothing.textContent = live ? "Press Run to write a reply under each condition." : "Nothing was run.";
    nothing.hidden = !(empty && !running && !run) || model.get("error") !== "";
    const finished = running ? model.get("exchanges").length > 1 : !empty;
    bar.hidden = !live || !model.get("chat") || !finished || run !== undefined;
    send.disabled = redo.disabled = running;
    past.draw(runs, picked >= 0 ? picked : running || empty ? -1 : runs.length - 1, running);
  };
  function drawResult(): void {
    if (picked >= model.get("runs").length) picked = -1;
    replies.draw(shownNow());
    drawNote();
    drawColours();
  }

  listen<SteeringState>(
    model,
    [
      "prompt",
      "chat",
      "has_chat",
      "conditions",
      "about",
      "n_features",
      "unit",
      "units",
      "residual_norm",
      "sweep_strengths",
      "positions",
      "max_new_tokens",
      "temperature",
      "seed",
    ],
    form.draw,
    signal,
  );
  listen<SteeringState>(model, ["chat", "error", "runs"], drawNote, signal);
  listen<SteeringState>(model, ["status", "error", "done", "total", "running"], form.drawRun, signal);
  listen<SteeringState>(model, ["colour_by", "colour_feature", "about"], drawColours, signal);
  listen<SteeringState>(model, ["ran", "ran_unit", "details", "concept"], drawResult, signal);
  listen<SteeringState>(
    model,
    ["exchanges"],
    () => {
      if (picked >= 0) return;
      if (model.get("running") && replies.element.firstChild && nothing.hidden && !colour.element.hidden) drawReplies();
      else drawResult(); // the first words, or the last
    },
    signal,
  );
  listen<SteeringState>(
    model,
    ["running"],
    () => {
      if (model.get("running")) picked = -1;
      conditions.draw();
      drawResult();
    },
    signal,
  );
  form.draw();
  form.drawRun();
  drawResult();
}

export default { render };
