/** The reference of the API at /docs: starts Swagger UI, and corrects it for keyboards and screen readers. */

/** Paths of routes are text: a link inside the button that opens the route could not be reached by keyboard. */
const WithoutNestedLinks = (system) => ({
  wrapComponents: { DeepLink: () => ({ text }) => system.React.createElement("span", null, text) },
});

SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", deepLinking: true, plugins: [WithoutNestedLinks] });

/** Add what Swagger UI leaves out for screen readers: a name for the list of servers, and levels of headings. */
function complete() {
  document.getElementById("servers")?.setAttribute("aria-label", "Server");
  for (const heading of document.querySelectorAll("h3.opblock-tag, .models h4")) heading.setAttribute("aria-level", "2");
  for (const heading of document.querySelectorAll(".opblock h4")) heading.setAttribute("aria-level", "3");
  for (const heading of document.querySelectorAll(".opblock h5")) heading.setAttribute("aria-level", "4");
}
new MutationObserver(complete).observe(document.getElementById("api"), { childList: true, subtree: true });
