//! A server that needs a token.

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn guarded(protect_metrics: bool) -> House {
    let access = Access { token: Token::parse(TOKEN), protect_metrics };
    House::open_guarded(sources(), access).await
}

async fn status(house: &House, path: &str, name: &str, value: &str) -> StatusCode {
    house.client.get(format!("{}{path}", house.url)).header(name, value).send().await.unwrap().status()
}

#[tokio::test]
async fn the_page_and_the_api_need_the_token_and_metrics_and_health_only_if_told() {
    for protect_metrics in [false, true] {
        let house = guarded(protect_metrics).await;
        house.sources.status.stream("a").resolved("start");
        for (path, _) in routes() {
            let open = !protect_metrics && matches!(path, "/metrics" | "/livez" | "/readyz");
            let expected = if open { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            let response = house.get(path).await;
            assert_eq!(response.status(), expected, "{path}");
            assert_eq!(header(&response, "www-authenticate").starts_with("Bearer"), !open, "{path}");
            assert_eq!(
                status(&house, path, "authorization", &format!("Bearer {TOKEN}")).await,
                StatusCode::OK,
                "{path}"
            );
        }
        assert_eq!(house.get("/nowhere").await.status(), StatusCode::UNAUTHORIZED, "not even what there is");
    }
}

#[tokio::test]
async fn nothing_but_the_token_is_the_token() {
    let house = guarded(false).await;
    let almost = format!("Bearer {}", &TOKEN[1..]);
    for wrong in ["", "Bearer", "Bearer ", TOKEN, &almost, &format!("Basic {TOKEN}"), &format!("Bearer {TOKEN}x")] {
        assert_eq!(status(&house, "/api/summary", "authorization", wrong).await, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    for wrong in [format!("pintail_1={TOKEN}"), format!("pintail_{}=", house.address.port())] {
        assert_eq!(status(&house, "/api/summary", "cookie", &wrong).await, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    assert_eq!(house.get(&format!("/api/summary?token={TOKEN}")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(house.get(&format!("/?token={}", &TOKEN[1..])).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_browser_brings_the_token_once_and_then_a_cookie_that_nobody_else_can_use() {
    let house = guarded(false).await;
    let first = house.get(&format!("/?token={TOKEN}")).await;
    assert_eq!(first.status(), StatusCode::OK);
    let cookie = header(&first, "set-cookie").to_owned();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let body = first.text().await.unwrap();
    assert!(body.contains("url=/\"") && !body.contains(TOKEN), "{body}");
    let pair = cookie.split(';').next().unwrap();
    for path in ["/", "/api/summary", "/api/stream"] {
        assert_eq!(status(&house, path, "cookie", &format!("theme=dark; {pair}")).await, StatusCode::OK, "{path}");
    }
}
