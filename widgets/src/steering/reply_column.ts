// The replies under one condition. A growing reply gets new spans; nothing else is drawn again.

import { h, NO_SHORTCUTS } from "../shared/dom";
import { textDirection } from "../shared/tokens";
import { isUnsteered } from "./condition";
import { describeCondition, replyMetrics, replyToken } from "./descriptions";
import type { Condition, Reply, TokenValues, Turn } from "./state";

const NEAR_END = 24; // pixels from the end within which a column keeps scrolling
const DIRECTION_TOKENS = 40; // after so many tokens the writing direction stays

export class ReplyColumn {
  readonly element: HTMLElement;
  readonly turns: TurnView[] = [];
  private readonly metrics = h("p", { class: "sk-metrics sk-num" });
  private readonly scroller = h("div", { class: "sk-turns" });
  private drawnMetrics = "";

  constructor(
    private readonly condition: Condition,
    unit: string,
    names: Record<string, string>,
  ) {
    const phrases = describeCondition(condition, unit, names).map((phrase) => h("span", {}, phrase));
    const interventions = h("p", { class: "sk-interventions" }, ...phrases);
    const header = h("header", {}, h("h4", {}, condition.name), interventions, this.metrics);
    const className = isUnsteered(condition) ? "sk-column" : "sk-column sk-steered";
    this.element = h("section", { class: className, "aria-label": condition.name }, header, this.scroller);
  }

  /** Draws the replies in column `index` of each turn. */
  draw(turns: readonly Turn[], index: number, writing: boolean, concept: string): void {
    while (this.turns.length > turns.length) this.turns.pop()?.element.remove();
    while (this.turns.length < turns.length) {
      const view = new TurnView();
      this.turns.push(view);
      this.scroller.append(view.element);
    }
    const several = turns.length > 1;
    for (const [t, turn] of turns.entries()) {
      const name = `Reply ${several ? `${t + 1} ` : ""}of ${this.condition.name}`;
      const isLast = t === turns.length - 1;
      this.turns[t]?.draw(several ? turn.user : null, turn.replies[index], name, writing && isLast);
    }
    this.drawMetrics(turns.at(-1)?.replies[index], concept);
  }

  private drawMetrics(reply: Reply | undefined, concept: string): void {
    const parts = reply ? replyMetrics(reply).map(([text, title]) => h("span", { title }, text)) : [];
    if (reply && reply.present !== null && concept) {
      const className = reply.present ? "sk-concept sk-present" : "sk-concept";
      parts.push(h("span", { class: className }, `${reply.present ? "mentions" : "does not mention"} ${concept}`));
    }
    const key = parts.map((part) => part.textContent).join("|");
    if (key === this.drawnMetrics) return;
    this.drawnMetrics = key;
    this.metrics.replaceChildren(...parts);
  }

  isAtEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  scrollToEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

class TurnView {
  readonly text = h("div", { class: "sk-reply-text", tabindex: 0, role: "group", ...NO_SHORTCUTS });
  readonly spans: HTMLElement[] = [];
  private readonly user = h("p", { class: "sk-user" });
  private readonly emptyNote = h("p", { class: "sk-muted sk-empty-reply" }, "(empty reply)");
  readonly element = h("div", { class: "sk-turn" }, this.user, this.text, this.emptyNote);
  private tokens: readonly string[] = [];

  draw(user: string | null, reply: Reply | undefined, name: string, writing: boolean): void {
    this.user.hidden = user === null;
    if (user !== null && this.user.textContent !== user) this.user.textContent = user;
    this.text.setAttribute("aria-label", name);
    this.text.classList.toggle("sk-writing", writing && reply?.end === "");
    this.drawTokens(reply?.tokens ?? []);
    this.emptyNote.hidden = writing || this.tokens.some((token) => token !== "");
    this.text.hidden = !this.emptyNote.hidden;
  }

  private drawTokens(tokens: readonly string[]): void {
    const added = document.createDocumentFragment();
    for (const [i, token] of tokens.entries()) {
      if (token === this.tokens[i]) continue;
      let span = this.spans[i];
      if (!span) {
        span = h("span", { class: "sk-token" });
        span.dataset.i = String(i);
        this.spans.push(span);
        added.append(span);
      }
      span.textContent = replyToken(token);
      span.classList.toggle("sk-break", /^[\r\n]+$/.test(token));
      span.style.removeProperty("--a");
    }
    for (const span of this.spans.splice(tokens.length)) span.remove();
    this.text.append(added);
    if (Math.min(this.tokens.length, tokens.length) < DIRECTION_TOKENS) this.text.dir = textDirection(tokens);
    this.tokens = tokens;
  }

  colour(values: TokenValues, max: number): void {
    for (const [i, span] of this.spans.entries()) {
      const fraction = max > 0 ? Math.min(1, Math.max(0, (values?.[i] ?? 0) / max)) : 0;
      if (fraction > 0) span.style.setProperty("--a", fraction.toFixed(3));
      else span.style.removeProperty("--a");
    }
  }
}
