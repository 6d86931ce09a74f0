// What the concept holds for: counts and a few places, before anything is ranked.

import { h } from "../shared/dom";
import { formatCount, formatPlural } from "../shared/numbers";
import { textDirection, tokenText } from "../shared/tokens";
import type { Model, Snippet } from "./state";

export interface PreviewView {
  element: HTMLElement;
  draw(): void;
}

export function previewView(model: Model): PreviewView {
  const counts = h("p", { class: "sk-counts", role: "status" });
  const nothing = h("p", { class: "sk-nothing", role: "status" });
  const list = h("ul", { class: "sk-snippets", "aria-label": "Places of the concept" });
  const element = h("section", { class: "sk-preview", "aria-label": "Preview" }, counts, nothing, list);
  const draw = () => {
    const preview = model.get("preview");
    const corpus = model.get("corpus");
    const known = preview.n_tokens !== undefined;
    const total = `${formatPlural(corpus.n_tokens ?? 0, "token")} of ${formatPlural(corpus.n_documents ?? 0, "document")}`;
    const [tokens, documents] = [formatPlural(preview.n_tokens ?? 0, "token"), formatCount(preview.n_documents)];
    counts.replaceChildren();
    if (known) {
      const where = `in ${documents} of ${formatPlural(corpus.n_documents ?? 0, "document")}`;
      counts.append("holds for ", h("b", {}, tokens), ` ${where}`);
      const n = model.get("marks").length;
      if (n > 0) counts.append(h("span", { class: "sk-muted" }, `, ${formatPlural(n, "mark")} by hand included`));
    } else counts.append(h("span", { class: "sk-muted" }, `Write a concept to look for in ${total}.`));
    nothing.textContent = preview.nothing ?? "";
    nothing.hidden = nothing.textContent === "";
    list.replaceChildren(...(preview.snippets ?? []).map(snippet));
    list.hidden = list.childElementCount === 0;
  };
  return { element, draw };
}

function snippet({ document, tokens, of, labels }: Snippet): HTMLElement {
  const parts: Node[] = [];
  for (let i = 0; i < tokens.length; ) {
    let end = i + 1;
    while (end < tokens.length && of[end] === of[i]) end++;
    parts.push(h(of[i] ? "mark" : "span", {}, tokens.slice(i, end).map(tokenText).join("")));
    i = end;
  }
  const title = [`document ${document}`, ...Object.entries(labels).map(([k, v]) => `${k}: ${v}`)].join(", ");
  return h("li", { title, dir: textDirection(tokens) }, ...parts);
}
