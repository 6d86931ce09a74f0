// Runs inside an offline page: gives each widget its state and a model without a kernel, draws figures, switches theme.

import "./page.css";
import widgets from "widgets";
import { decodeState, OfflineModel } from "./shared/offline_model";

interface Figure {
  data: unknown[];
  layout: Record<string, unknown>;
}
interface PlotlyApi {
  newPlot(el: HTMLElement, data: unknown[], layout: unknown, config: unknown): Promise<unknown>;
  relayout(el: HTMLElement, change: Record<string, unknown>): Promise<unknown>;
}
declare const Plotly: PlotlyApi;

type Render = (props: { model: OfflineModel; el: HTMLElement; signal: AbortSignal }) => unknown;
const WIDGETS = widgets as unknown as Record<string, { render: Render }>;

const stateOf = (el: HTMLElement): unknown =>
  JSON.parse(document.getElementById(el.dataset.state ?? "")?.textContent ?? "null");
const figures: HTMLElement[] = [];

/** Colours of a figure's frame in the theme that shows now; the traces keep their own. */
function frameColours(layout: Record<string, unknown>): Record<string, unknown> {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--jp-ui-font-color0").trim();
  const grid = `color-mix(in srgb, ${text} 16%, transparent)`;
  const solid = resolved(grid);
  const change: Record<string, unknown> = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    "font.color": text,
  };
  const axes = new Set(["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))]);
  for (const axis of axes)
    Object.assign(change, {
      [`${axis}.gridcolor`]: solid,
      [`${axis}.zerolinecolor`]: solid,
      [`${axis}.linecolor`]: solid,
    });
  return change;
}

/** A colour as rgb(), because the plotting library does not support color-mix. */
function resolved(colour: string): string {
  const probe = document.createElement("span");
  probe.style.color = colour;
  document.body.append(probe);
  const canvas = document.createElement("canvas").getContext("2d");
  const computed = getComputedStyle(probe).color;
  probe.remove();
  if (!canvas) return "rgba(128,128,128,0.3)";
  canvas.fillStyle = computed;
  canvas.fillRect(0, 0, 1, 1);
  const [r = 0, g = 0, b = 0, a = 255] = canvas.getImageData(0, 0, 1, 1).data;
  return `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`;
}

async function recolourFigures(): Promise<void> {
  for (const el of figures) {
    const layout = (el as HTMLElement & { layout?: Record<string, unknown> }).layout;
    if (layout) await Plotly.relayout(el, frameColours(layout));
  }
}

function themeSwitch(): void {
  const root = document.documentElement;
  const themeButton = document.getElementById("page-theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const draw = () => {
    if (themeButton) themeButton.textContent = dark() ? "Light theme" : "Dark theme";
    void recolourFigures();
  };
  themeButton?.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    draw();
  });
  system.addEventListener("change", draw);
  draw();
}

function showProblem(el: HTMLElement, error: unknown): void {
  const message = document.createElement("p");
  message.className = "page-problem";
  message.textContent = `This part could not be shown: ${error instanceof Error ? error.message : String(error)}`;
  el.replaceChildren(message);
}

async function start(): Promise<void> {
  const models: Record<string, OfflineModel> = {};
  for (const el of document.querySelectorAll<HTMLElement>("[data-widget]")) {
    try {
      const widget = WIDGETS[el.dataset.widget ?? ""];
      if (!widget) throw new Error(`no widget ${el.dataset.widget}`);
      const model = new OfflineModel(decodeState(stateOf(el)) as Record<string, unknown>);
      models[el.dataset.state ?? ""] = model;
      const inner = document.createElement("div");
      el.replaceChildren(inner);
      await widget.render({ model, el: inner, signal: new AbortController().signal });
    } catch (error) {
      showProblem(el, error);
    }
  }
  for (const el of document.querySelectorAll<HTMLElement>("[data-figure]")) {
    try {
      const { data, layout } = stateOf(el) as Figure;
      await Plotly.newPlot(el, data, layout, { responsive: true, displaylogo: false });
      figures.push(el);
    } catch (error) {
      showProblem(el, error);
    }
  }
  themeSwitch();
  Object.assign(window, { saekit: { models, ready: true } });
}

void start();
