/** The menu of further actions of a row: one element for all rows, in front of the table. */

import { $, element, iconButton } from "./page.js";

let opener = null; // the button whose menu is open

/** The button that opens a menu. Each action is [label, work, verbs], where the token needs all of the verbs. */
export function menuButton(words, actions) {
  let wasOpen = false;
  const button = iconButton("more", ["More actions", `for ${words}`], () => {
    // The browser closes the menu before this click arrives.
    if (!wasOpen) open(button, actions);
    wasOpen = false;
  });
  button.addEventListener("pointerdown", () => (wasOpen = opener === button));
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.dataset.needs = neededByAll(actions);
  return button;
}

/** The verbs without which no action is left. */
function neededByAll(actions) {
  const [first, ...others] = actions.map(([, , verbs]) => verbs.split(" "));
  return first.filter((verb) => others.every((verbs) => verbs.includes(verb))).join(" ");
}

function open(button, actions) {
  const run = (work) => () => {
    close({ focus: true });
    work();
  };
  $("menu").replaceChildren(
    ...actions.map(([label, work, verbs]) => {
      const item = element("button", { type: "button", role: "menuitem", tabindex: "-1", onclick: run(work) }, label);
      item.dataset.needs = verbs;
      return item;
    }),
  );
  $("menu").setAttribute("aria-label", button.getAttribute("aria-label"));
  opener = button;
  button.setAttribute("aria-expanded", "true");
  $("menu").showPopover();
  const { right, top, bottom } = button.getBoundingClientRect();
  const { width, height } = $("menu").getBoundingClientRect();
  const below = bottom + height <= innerHeight;
  $("menu").style.left = `${scrollX + Math.max(8, right - width)}px`;
  $("menu").style.top = `${scrollY + Math.max(8, below ? bottom : top - height)}px`;
  items()[0]?.focus();
}

const items = () => [...$("menu").children].filter((item) => item.checkVisibility());

function close({ focus = false } = {}) {
  const button = opener;
  $("menu").hidePopover();
  if (focus) button?.focus();
}

$("menu").addEventListener("keydown", (event) => {
  const all = items();
  const at = all.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (to !== undefined) all.at(to % all.length).focus();
  else if (event.key === "Tab" || event.key === "Escape") close({ focus: true });
  else return;
  if (event.key !== "Tab") event.preventDefault(); // Tab goes on from the button
});

// The browser closes the menu on a click elsewhere.
$("menu").addEventListener("beforetoggle", (event) => {
  if (event.newState === "open") return;
  opener?.setAttribute("aria-expanded", "false");
  opener = null;
});

// The menu would stay where its row was.
window.addEventListener("resize", () => close());
