// Replies to one prompt side by side, each under a condition. Python generates; this sends it what to run and shows the replies.

import type { RenderProps } from "@anywidget/types";
import "./shared/base.css";
import "./steering_panel.css";
import { button, h } from "./shared/dom";
import { kernelOf } from "./shared/kernel";
import { onChange } from "./shared/model";
import { refusedLine } from "./shared/refused";
import { colourControls } from "./steering/colour_controls";
import { replyColouring } from "./steering/colouring";
import { featuresOf } from "./steering/condition";
import { describeSettings, runTitle } from "./steering/descriptions";
import { formView } from "./steering/form";
import { FormInputs } from "./steering/form_inputs";
import { nextTurn } from "./steering/next_turn";
import { type DisplayedRun, repliesView } from "./steering/replies";
import { runHistory } from "./steering/run_history";
import type { Condition, Run, SteeringState } from "./steering/state";
import { tokenCard } from "./steering/token_card";

const OFFLINE = "The replies below were generated in a notebook, where the controls work.";
const FORM: (keyof SteeringState)[] = [
  ...(["prompt", "chat", "has_chat", "conditions", "about", "n_features", "unit", "units"] as const),
  ...(["residual_norm", "sweep_strengths", "positions", "max_new_tokens", "temperature", "seed"] as const),
];

function render({ model, el, signal }: RenderProps<SteeringState & Record<string, unknown>>): void {
  el.classList.add("saekit", "saekit-steering");
  let selected = -1; // which earlier run is shown; -1: the latest
  const names: Record<string, string> = {}; // of all features so far: a run is of others than the form shows now

  const send = (message: object) => {
    selected = -1;
    kernel.send(message);
    drawRun();
  };
  const kernel = kernelOf(model, signal);
  const inputs = new FormInputs();
  const form = formView(model, inputs, send);
  const note = h("div", { class: "sk-note sk-muted" });
  const colours = colourControls(model, inputs);
  const replies = repliesView();
  const empty = h("p", { class: "sk-empty" });
  const result = h("div", { class: "sk-result" }, note, colours.element, replies.element, empty);
  const turn = nextTurn(model, send);
  const select = (index: number) => {
    const runs = model.get("runs");
    const isLatest = index === runs.length - 1 && !model.get("running") && model.get("exchanges").length > 0;
    selected = isLatest ? -1 : index;
    drawRun();
  };
  const history = runHistory(() => model.get("runs"), select);
  const toLatest = button("Back to the latest", "sk-subtle", () => {
    select(-1);
    history.focusLast(); // this button is gone
  });
  const card = tokenCard(el, replies, model, signal);
  const messages = [form.error, refusedLine(model, signal), kernel.element];
  el.replaceChildren(form.element, ...messages, result, turn.element, history.element, card.element, card.status);

  const earlierRun = (): Run | undefined => (selected >= 0 ? model.get("runs")[selected] : undefined);
  const namesIn = (conditions: Condition[]): Record<string, string> => {
    for (const [feature, { name }] of Object.entries(model.get("about"))) if (name) names[feature] = name;
    return Object.fromEntries(featuresOf(conditions).map((f) => [f, names[String(f)] ?? ""]));
  };
  const displayedRun = (): DisplayedRun => {
    const concept = model.get("concept");
    const earlier = earlierRun();
    if (earlier) {
      const { conditions, unit, exchanges } = earlier;
      const shown = { conditions, unit, names: namesIn(conditions), exchanges };
      return { id: `run ${selected}`, ...shown, details: null, writing: false, concept };
    }
    const [ran, writing] = [model.get("ran"), model.get("running")];
    const exchanges = model.get("exchanges").filter((e) => e.replies.length === ran.length); // traits arrive one by one
    const conditions = exchanges.length > 0 || writing ? ran : [];
    const [unit, details] = [model.get("ran_unit"), model.get("details")];
    return { id: "latest", conditions, unit, names: namesIn(conditions), exchanges, details, writing, concept };
  };
  const drawReplies = () => {
    replies.draw(displayedRun());
    card.refresh();
  };
  const drawColours = () => {
    const run = displayedRun();
    const colouring = replyColouring(run, model.get("colour_by"), model.get("colour_feature"));
    colours.element.hidden = run.conditions.length === 0;
    colours.draw(run, colouring);
    replies.colour(colouring.values, colouring.max);
    card.refresh();
  };
  const drawNote = () => {
    const [runs, live, running] = [model.get("runs"), model.get("live"), model.get("running")];
    const nTurns = model.get("exchanges").length;
    const earlier = earlierRun();
    const described = earlier ?? (live || nTurns === 0 ? undefined : runs.at(-1));
    const lines = [];
    if (!live && nTurns > 0) lines.push(h("p", {}, OFFLINE));
    if (described) {
      const settings = ` \u00b7 ${describeSettings(described)}`;
      const text = h("span", { title: runTitle(described) }, h("q", {}, described.prompt), settings);
      lines.push(h("p", {}, earlier ? "An earlier run: " : "", text, " ", earlier && toLatest));
    }
    note.replaceChildren(...lines);
    note.hidden = lines.length === 0;
    empty.textContent = live ? "Press Run to generate a reply under each condition." : "Nothing was run.";
    empty.hidden = nTurns > 0 || running || earlier !== undefined || model.get("error") !== "";
    const hasReply = nTurns > (running ? 1 : 0);
    turn.draw(live && model.get("chat") && hasReply && !earlier, running);
    history.draw(runs, selected >= 0 ? selected : running || nTurns === 0 ? -1 : runs.length - 1, running);
  };
  function drawRun(): void {
    if (selected >= model.get("runs").length) selected = -1;
    replies.draw(displayedRun());
    drawNote();
    drawColours();
  }

  const on = (names: (keyof SteeringState)[], draw: () => void) => onChange<SteeringState>(model, names, draw, signal);
  on(FORM, form.draw);
  on(["chat", "error", "runs"], drawNote);
  on(["status", "error", "done", "total", "running"], form.drawProgress);
  on(["colour_by", "colour_feature"], drawColours);
  on(["ran", "ran_unit", "details", "concept", "about"], drawRun);
  on(["exchanges"], () => {
    if (selected >= 0) return;
    const growing = model.get("running") && replies.element.firstChild && empty.hidden && !colours.element.hidden;
    if (growing) drawReplies();
    else drawRun(); // the first tokens, or the last
  });
  on(["running"], () => {
    if (model.get("running")) selected = -1;
    form.drawConditions();
    drawRun();
  });
  form.draw();
  form.drawProgress();
  drawRun();
}

export default { render };
